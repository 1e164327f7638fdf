"""Draws the workflows in a real ComfyUI's editor and saves them, with their API twins.

``python -m samples.templates.build [NAME …]`` (``COMFYUI`` names its folder).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import PACK
from harness.browser import READY, open_browser
from harness.server import find_comfyui, running_server
from samples.templates.graph import COLUMN_GAP, GAP, Output, Template
from samples.templates.layouts import TEMPLATES

NOTES = Path(__file__).parent / "notes"
WORKFLOWS = PACK / "workflows"
TITLE = 30  # height of a node's title bar, which is above its position
GROUP_TOP, GROUP_SIDE = 54, 12

MAKE = """([nodes, groups, extra]) => {
    app.graph.clear();
    const made = {};
    for (const each of nodes) {
        const node = LiteGraph.createNode(each.type);
        app.graph.add(node);
        node.pos = each.pos;
        node.setSize(each.size);
        if (each.title) node.title = each.title;
        for (const widget of node.widgets ?? []) {
            if (widget.name in each.values) widget.value = each.values[widget.name];
        }
        const unknown = Object.keys(each.values).filter(
            (name) => !node.widgets.some((widget) => widget.name === name));
        if (unknown.length) throw Error(`${each.type} has no ${unknown}`);
        if (each.text) node.widgets[0].value = each.text;
        if (each.collapsed) node.flags.collapsed = true;
        if (each.muted) node.mode = LiteGraph.NEVER;
        made[each.name] = node;
    }
    for (const each of nodes) {
        for (const [input, source, slot] of each.links) {
            const place = made[each.name].findInputSlot(input);
            if (place < 0) throw Error(`${each.type} has no input ${input}`);
            made[source].connect(slot, made[each.name], place);
        }
    }
    for (const { title, bounding } of groups) {
        const group = new LiteGraph.LGraphGroup(title);
        group.pos = bounding.slice(0, 2);
        group.size = bounding.slice(2);
        app.graph.add(group);
    }
    for (const each of nodes) if (each.size[1]) made[each.name].setSize(each.size);
    const linear = {
        inputs: extra.inputs.map(([name, widget]) => [made[name].id, widget]),
        outputs: extra.outputs.map((name) => made[name].id),
    };
    app.graph.extra = { bfr_template: true };
    if (linear.outputs.length) app.graph.extra.linearData = linear;
}"""
SAVE = """async () => {
    const workflow = JSON.parse(JSON.stringify(app.graph.serialize()));
    delete workflow.extra.ds;
    return { workflow, api: (await app.graphToPrompt()).output };
}"""


def place(template: Template, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Nodes and groups with their positions, as `MAKE` takes them."""
    texts = [(NOTES / f"{name}{end}.md").read_text("utf-8").strip() for end in ("", ".zh")]
    top = TITLE
    nodes = [
        _note("note", "About this workflow", [0, top], template, texts[0]),
        _note("note_zh", "关于此工作流", [0, top + template.note_height + GAP + TITLE], template,
              texts[1], collapsed=True),
    ]  # fmt: skip
    groups: list[dict[str, Any]] = []
    left = template.note_width + COLUMN_GAP
    for column in template.columns:
        bottom = top
        for key, node in column.nodes.items():
            links = [[i, v.node, v.slot] for i, v in node.inputs.items() if isinstance(v, Output)]
            values = {i: v for i, v in node.inputs.items() if not isinstance(v, Output)}
            nodes.append(
                {"name": key, "type": node.type, "title": node.title, "pos": [left, bottom],
                 "size": [column.width, node.height], "values": values, "links": links,
                 "collapsed": not node.height, "muted": column.muted}
            )  # fmt: skip
            bottom += node.height + GAP + TITLE
        if column.group:
            groups.append({"title": column.group, "bounding": [left - GROUP_SIDE, 0, 0, 0]})
        if groups:
            box = groups[-1]["bounding"]
            box[2] = left + column.width + GROUP_SIDE - box[0]
        left += column.width + COLUMN_GAP
    heights = [node["pos"][1] + node["size"][1] for node in nodes if not node.get("collapsed")]
    for group in groups:
        group["bounding"][1] = top - GROUP_TOP - TITLE
        group["bounding"][3] = max(heights) + GROUP_SIDE - group["bounding"][1]
    return nodes, groups


def _note(
    name: str, title: str, pos: list[int], template: Template, text: str, collapsed: bool = False
) -> dict[str, Any]:
    size = [template.note_width, template.note_height]
    return {"name": name, "type": "MarkdownNote", "title": title, "pos": pos, "size": size,
            "values": {}, "text": text, "links": [], "collapsed": collapsed}  # fmt: skip


def write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, "utf-8")
    print(path)


def draw(page: Any, names: list[str]) -> None:
    """Draws and saves the workflows of these names, or all, in an open editor."""
    for name, template in TEMPLATES.items():
        if names and name not in names:
            continue
        nodes, groups = place(template, name)
        extra = {
            "inputs": [list(pair) for pair in template.app_inputs],
            "outputs": list(template.app_outputs),
        }
        saved = _drawn(page, nodes, [nodes, groups, extra])
        if saved is None:
            raise RuntimeError(f"{name}: the editor holds another graph. Draw it again.")
        write(WORKFLOWS / f"{name}.json", saved["workflow"])
        write(WORKFLOWS / "api" / f"{name}.json", saved["api"])


def _drawn(page: Any, nodes: list[dict[str, Any]], graph: list[Any]) -> dict[str, Any] | None:
    """The graph as the editor saves it; None if it opened drafts of its own over it three times."""
    for _ in range(3):
        page.reload()  # else nodes keep values that nodes of the same id had before
        page.wait_for_function(READY, timeout=120_000)
        page.evaluate(MAKE, graph)
        saved = page.evaluate(SAVE)
        if [node["type"] for node in saved["workflow"]["nodes"]] == [n["type"] for n in nodes]:
            return saved
    return None


def main(names: list[str]) -> None:
    comfyui = find_comfyui()
    if comfyui is None:
        sys.exit("There is no ComfyUI: set COMFYUI to its folder.")
    with (
        tempfile.TemporaryDirectory() as base,
        running_server(comfyui, Path(base)) as server,
        open_browser() as browser,
    ):
        server.post("/settings/Comfy.TutorialCompleted", True)
        server.post("/settings/Comfy.VueNodes.Enabled", False)
        server.post("/face_restoration/examples", {})
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(server.url)
        page.wait_for_function(READY, timeout=120_000)
        draw(page, names)


if __name__ == "__main__":
    main(sys.argv[1:])
