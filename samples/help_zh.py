"""Writes the nodes' help pages in Chinese from the words of their translation.

``python -m samples.help_zh`` writes ``web/docs/NODE/zh.md``, where ComfyUI looks first if its
language is Chinese. The pictures are those of the English pages, which tell more. As there, they
are named from ``web/docs``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
PICTURE = re.compile(r"^!\[[^]]*]\(images/([^)]+)\)$", re.MULTILINE)


def page(node_id: str, words: dict[str, Any]) -> str:
    """The page of a node."""
    pictures = PICTURE.findall((DOCS / f"{node_id}.md").read_text("utf-8"))
    parts = [f"# {words['display_name']}", words["description"]]
    parts += [f"![{words['display_name']}](images/{name})" for name in pictures]
    for title, entries in (("输入", words["inputs"]), ("输出", words["outputs"])):
        lines = [f"- **{entry['name']}**：{entry['tooltip']}" for entry in entries.values()]
        parts += [f"## {title}", "\n".join(lines)] if lines else []
    return "\n\n".join(parts) + "\n"


def main() -> None:
    texts = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))
    for node_id, words in texts.items():
        path = DOCS / node_id / "zh.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(node_id, words), "utf-8")


if __name__ == "__main__":
    main()
