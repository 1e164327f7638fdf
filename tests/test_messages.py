"""Every error says what is wrong and what to do, in one of three forms.

- About a value or a file: "X must be Y, got Z. Do this." Where the range or the choices are named,
  what to do is plain.
- About what failed for another reason: "Cannot do X: reason. Do this."
- About a package: "X needs the package Y. Install it: pip install Y".

The messages are read from the source: every ``raise`` of an error of `bfr.errors`, with "{}" for
the values in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bfr import errors

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("bfr/**/*.py"), *ROOT.glob("nodes/*.py")])
ERRORS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.FaceRestorationError)
}
EXPECTED = re.compile(r"\b(must|needs?|expected)\b")
GOT = re.compile(r"\bgot\b")
REMEDY = re.compile(r"\bgot\b.*?[.;:] \S")
OLD = re.compile(r"\bcame\b|, not \{\}")
FAILED = re.compile(r"Cannot [^:]+: .+?[.:] \S")
PACKAGE = re.compile(r"\bneeds? the package \S+.*\. Install it: pip install ")
PASSED_ON = re.compile(r"\{\}$|\{\} Or ")  # another error's message, and perhaps one thing more

# Where a range or the choices are named, what to do is plain.
PLAIN = re.compile(
    r"\bmust (be|end in) (in \[|one of |at least |at most |\S+ or more|(\S+, )+\S+ or )"
)


def text_of(node: ast.expr) -> str:
    """A message as it is written, with "{}" for each value in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "{}"


def raised(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """The class, line and message of every error of ours that is made in a file."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        if node.func.id in ERRORS:
            yield node.func.id, node.lineno, text_of(node.args[0])


def faults(message: str, kind: str = "InputError") -> list[str]:
    """What the message of an error of that class lacks."""
    if kind == "CancelledError" or PASSED_ON.match(message):
        return []
    if kind == "MissingPackageError":
        return [] if PACKAGE.search(message) else ["needs the package …. Install it: pip install …"]
    if message.startswith("Cannot ") and kind != "InputError":
        return [] if FAILED.match(message) else ["Cannot …: reason. What to do"]
    found = []
    if not EXPECTED.search(message):
        found.append("what was expected (must)")
    if not GOT.search(message):
        found.append("what it got")
    elif not REMEDY.search(message) and not PLAIN.search(message):
        found.append("what to do, after what it got")
    if OLD.search(message):
        found.append('"got" instead of "came" or ", not"')
    return found


def test_a_message_without_its_parts_is_found():
    assert faults("score must be in [0, 1], got {}. Lower it.") == []
    assert faults("score must be in [0, 1], and {} came.")
    assert faults("score must be in [0, 1], got {}.") == []
    assert faults("crops must be square, got {}.") == ["what to do, after what it got"]
    assert faults("score is wrong, got {}. Lower it.") == ["what was expected (must)"]
    assert len(faults("There is no {}.")) == 2
    assert faults("Cannot write {}: {}. Free some space.", "OutputError") == []
    assert faults("Cannot write {}: {}.", "OutputError")
    assert faults("Cannot write {}. Free some space.", "OutputError")
    assert (
        faults("ONNX needs the package onnx. Install it: pip install onnx", "MissingPackageError")
        == []
    )
    assert faults("ONNX needs onnx.", "MissingPackageError")
    source = "if a:\n    raise InputError(f'{a} must be b, ' f'got {c!r}. Do d.') from None\n"
    assert list(raised(ast.parse(source))) == [("InputError", 2, "{} must be b, got {}. Do d.")]


def test_every_message_says_what_is_wrong_and_what_to_do():
    seen, wrong = 0, []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        for kind, line, message in raised(ast.parse(path.read_text(encoding="utf-8"))):
            seen += 1
            if lacking := faults(message, kind):
                wrong.append(f"{name}:{line} lacks {'; '.join(lacking)}: {message}")
    assert seen > 300, "the messages were not found"
    assert not wrong, "\n" + "\n".join(wrong)
