"""Errors about values say what was expected, what they got and what to do, in the same words.

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


def faults(message: str) -> list[str]:
    """What a message about a wrong value lacks."""
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
    source = "if a:\n    raise InputError(f'{a} must be b, ' f'got {c!r}. Do d.') from None\n"
    assert list(raised(ast.parse(source))) == [("InputError", 2, "{} must be b, got {}. Do d.")]


def test_messages_about_values_say_expected_got_and_remedy():
    seen, wrong = 0, []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        for kind, line, message in raised(ast.parse(path.read_text(encoding="utf-8"))):
            if kind != "InputError" or message == "{}":
                continue
            seen += 1
            if lacking := faults(message):
                wrong.append(f"{name}:{line} lacks {'; '.join(lacking)}: {message}")
    assert seen > 200, "the messages were not found"
    assert not wrong, "\n" + "\n".join(wrong)
