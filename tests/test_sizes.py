"""The size of modules and functions: what is longer than the rule states its reason."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    path
    for folder in ("bfr", "nodes", "recipes", "harness", "samples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
MODULE, FUNCTION = 250, 60
REASON = re.compile(r"\bone (long )?module\b", re.IGNORECASE)
# Tables of inputs and options are read by the row.
TABLE = re.compile(r"define_schema|add_\w+|\w+_inputs")
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def lines_of_code(text: str) -> set[int]:
    """The numbers of the lines that hold more than a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    spans = (range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in NO_CODE)
    return {number for span in spans for number in span}


def module_length(text: str) -> int:
    """Lines of a module, without those of its tables."""
    tables = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and TABLE.fullmatch(node.name)
    ]
    return text.count("\n") - sum((node.end_lineno or 0) + 1 - node.lineno for node in tables)


def lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or 0) + 1)


def function_lengths(text: str, least: int = 0) -> list[tuple[str, int]]:
    """Names of functions and their lines of code, without those of the docstring.

    Functions that have no more lines than ``least`` in all are left out.
    """
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and len(lines_of(node)) > least
    ]
    code, found = lines_of_code(text) if functions else set(), []
    for node in functions:
        own = code & {*lines_of(node)}
        if ast.get_docstring(node) is not None:
            own -= {*lines_of(node.body[0])}
        found.append((node.name, len(own)))
    return found


def test_code_is_counted_without_comments_and_docstrings():
    text = 'def f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    # 3\n\n    return """\n4"""'
    assert function_lengths(text) == [("f", 5)]
    assert function_lengths(text, 10) == [("f", 5)] and not function_lengths(text, 11)


def test_long_modules_say_why():
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    assert len(texts) > 200
    silent = [
        f"{path.relative_to(ROOT)}: {module_length(text)} lines"
        for path, text in texts.items()
        if module_length(text) > MODULE
        and not REASON.search(ast.get_docstring(ast.parse(text)) or "")
    ]
    assert not silent, "split them, or say in the docstring why each is one module"


def test_functions_are_short():
    long = [
        f"{path.relative_to(ROOT)}: {name} has {length} lines of code"
        for path in FILES
        for name, length in function_lengths(path.read_text(encoding="utf-8"), FUNCTION)
        if length > FUNCTION and not TABLE.fullmatch(name)
    ]
    assert not long
