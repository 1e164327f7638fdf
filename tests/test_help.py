"""What explains the nodes: their help pages with pictures, and their Chinese texts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from samples.help_zh import page as chinese_page
from samples.templates.layouts import own_checkpoint

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted(DOCS.glob("*.md"))
CHINESE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))
FORMULAE = {"eta"}  # names that no language translates


def pictures(page: Path) -> list[tuple[str, Path]]:
    """What stands in a picture's place for those who do not see it, and its file."""
    found = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text("utf-8"))
    return [(text, DOCS / name) for text, name in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_tells_all(page: Path):
    """What the node does, a picture, each input, and what goes wrong."""
    text = page.read_text("utf-8")
    introduction = text.split("\n")[2]
    assert len(introduction) > 60 and not introduction.startswith(("#", "!", "-"))
    assert [part for part in ("## Inputs", "## Output", "## Common mistakes") if part in text] == [
        "## Inputs",
        "## Output",
        "## Common mistakes",
    ]
    assert "\n- *" in text.split("## Common mistakes")[1], "a mistake, and what to do"
    assert pictures(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pictures_are_here_and_described(page: Path):
    for text, path in pictures(page):
        assert len(text) > 20, f"{path.name}: what does it show?"
        with Image.open(path) as image:
            assert image.format == "JPEG" and image.width >= 400, path.name


def written(path: Path) -> Iterator[str]:
    """The texts in a module, with "{}" for each value in them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def without_values(text: str) -> str:
    return re.sub(r"\{\}|\d+", "#", text)


def test_messages_that_pages_quote_are_ours():
    sources = [*(ROOT / "bfr").rglob("*.py"), *(ROOT / "nodes").glob("*.py")]
    ours = without_values("\n".join(text for path in sources for text in written(path)))
    quotes = [
        (page.stem, part.strip(" ."))
        for page in PAGES
        for quote in re.findall(r'\*"([^"]+)"\*', page.read_text("utf-8"))
        for part in quote.split("…")
    ]
    assert len(quotes) > 20
    assert not [(page, part) for page, part in quotes if without_values(part) not in ours]


def test_no_picture_is_large_or_left_over():
    files = set((DOCS / "images").iterdir())
    assert not [path.name for path in files if path.stat().st_size >= 150_000]
    shown = {path for page in PAGES for _, path in pictures(page)}
    shown |= {ROOT / name for name in re.findall(r"\]\((web/[^)]+)\)", README)}
    names = [path.stem for path in (ROOT / "workflows").glob("*.json")]  # for the README, too
    ours = [name for name in names if not own_checkpoint(name)]
    shown |= {DOCS / "images" / f"workflow_{name}.jpg" for name in ours}
    assert files == shown


def test_chinese_pages_are_made_of_the_translation():
    """After a change of it, ``python -m samples.help_zh``."""
    pages = {path.parent.name: path.read_text("utf-8") for path in DOCS.glob("*/zh.md")}
    assert pages == {node_id: chinese_page(node_id, words) for node_id, words in CHINESE.items()}


@pytest.mark.parametrize("node_id", sorted(CHINESE))
def test_every_text_is_in_chinese(node_id: str):
    """That none is missing, tests/test_nodes.py holds; here, that none was left in English."""
    text = CHINESE[node_id]
    parts = [*text["inputs"].values(), *text["outputs"].values()]
    names = {text["display_name"], *(part["name"] for part in parts)} - FORMULAE
    sentences = {text["description"], *(part["tooltip"] for part in parts)}
    assert not [each for each in names | sentences if not re.search(r"[\u4e00-\u9fff]", each)]
    assert not [each for each in sentences if not each.endswith(("。", "…"))]
