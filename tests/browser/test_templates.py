"""The gallery of templates and the library of blueprints, as a newcomer uses them."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import pytest

from harness import PACK, PACK_NAME
from harness.server import Server
from samples.templates.blueprints import PATHS
from tests.blueprints import flatten, read
from tests.browser import graphs

pytestmark = pytest.mark.browser

WORKFLOWS = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
CARD = "[data-testid='template-workflow-{}']"
GRAPH = "() => app.graph.nodes.map((node) => node.type)"
MISSING = """() => app.graph.nodes.filter((node) => node.has_errors
    || !(node.type in LiteGraph.registered_node_types)).map((node) => node.type)"""
COMMAND = "(name) => { app.extensionManager.command.execute(name); }"
QUICK = {"prior_name": "tiny.safetensors", "calls": 4, "steps": 2}
INSIDE = {"held_back": 0, "patch": 32, "batch": 1}
JOIN = """([source, slot, view, quick, inside]) => {
    const node = app.graph.nodes[0];
    const set = (widgets, values) => (widgets ?? []).forEach((widget) => {
        if (widget.name in values) widget.value = values[widget.name];
    });
    set(node.widgets, quick);
    node.subgraph.nodes.forEach((part) => set(part.widgets, inside));
    app.graph.getNodeById(source).connect(0, node, 0);
    node.connect(slot, app.graph.getNodeById(view), 0);
}"""


def test_gallery_shows_all_and_opens_one(editor):
    """Every template with its picture; the simplest opens, runs, and shows what it made."""
    editor.evaluate(COMMAND, "Comfy.BrowseTemplates")
    editor.get_by_text(PACK_NAME).first.click()
    for name in WORKFLOWS:
        card = editor.locator(CARD.format(name))
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first
        picture.wait_for()
        assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)") >= 256
    editor.locator(CARD.format("face_restore_1_old_photo_gfpgan")).click()
    editor.wait_for_function(
        "() => app.graph.nodes.some((node) => node.type === 'BFR_RestorePhoto')"
    )
    assert editor.evaluate(MISSING) == []
    graphs.run(editor)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_library_adds_a_blueprint_that_runs(editor, server: Server, path: Path):
    """As one node, whose widgets are those that the blueprint shows, and set what is inside."""
    for done in ("datasets", "output/face_restoration_runs"):
        shutil.rmtree(server.base / done, ignore_errors=True)
    editor.evaluate(COMMAND, "Workspace.ToggleSidebarTab.node-library")
    editor.locator("input[placeholder*='earch']").last.fill(path.stem)
    editor.get_by_text(path.stem, exact=True).last.click()
    editor.mouse.click(1000, 400)  # where it is to be
    editor.wait_for_function("() => app.graph.nodes.length === 1")
    assert editor.evaluate("() => app.graph.nodes[0].title") == path.stem
    host, subgraph = read(path)
    widgets = editor.evaluate("() => app.graph.nodes[0].widgets.map((widget) => widget.name)")
    assert widgets == [name for _, name in host["properties"]["proxyWidgets"]]
    nodes = [["BFR_LoadExamplePhoto", -500, 0, {}], ["PreviewImage", 900, 0, {}]]
    links = []
    if subgraph["inputs"][0]["name"] == "faces":  # aligned ones
        nodes.append(["ImageCrop", -250, 0, {"x": 70, "y": 60, "width": 256, "height": 256}])
        links.append([0, 0, 2, "image"])
    made = graphs.make(editor, nodes, links)
    image = next(i for i, slot in enumerate(subgraph["outputs"]) if slot["type"] == "IMAGE")
    editor.evaluate(JOIN, [made[-1] if links else made[0], image, made[1], QUICK, INSIDE])
    graphs.run(editor)
    assert editor.evaluate("(id) => app.nodeOutputs[id].images.length", made[1]) >= 1
    (prompt,) = server.get("/history?max_items=1").values()
    ran = {item["class_type"]: item["inputs"] for item in prompt["prompt"][2].values()}
    for item in flatten(path)[0].values():
        for name, value in item["inputs"].items():
            if not isinstance(value, list) and name not in QUICK | INSIDE:
                assert ran[item["class_type"]][name] == value, f"{item['class_type']}.{name}"
    set_here = [(name, value) for name, value in QUICK.items() if name in widgets]
    assert all(pair in [*chain(*map(dict.items, ran.values()))] for pair in set_here)
