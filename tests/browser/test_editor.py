"""The workflows in ComfyUI's editor, in a real browser, in both of its renderings.

``python -m samples.templates.build`` draws and saves them; ``BFR_SCREENSHOTS=folder`` keeps
screenshots of the test.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bfr.prior.load import save_prior
from harness import PACK
from harness.server import Server
from samples.templates.layouts import own_checkpoint
from tests.priors import tiny_prior

pytestmark = pytest.mark.browser

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
REPORTS = {
    "face_restore_1_old_photo_gfpgan": "1 face restored",
    "face_restore_4_video": "1 face followed",
}
READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
LOAD = """async (workflow) => {
    const missing = workflow.nodes.map(n => n.type)
        .filter(type => !(type in LiteGraph.registered_node_types));
    await app.loadGraphData(workflow, true, true, null, {openSource: "template"});
    return missing;
}"""
# Pairs of nodes that cover one another, by their titles, as they are drawn.
OVERLAPS = """() => {
    const view = app.canvas.ds, origin = app.canvas.canvas.getBoundingClientRect();
    const boxes = app.graph.nodes.map((node) => {
        const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
        if (!drawn || !LiteGraph.vueNodesMode) return [node.title, ...node.boundingRect];
        const {x, y, width, height} = drawn.getBoundingClientRect();
        return [node.title, (x - origin.x) / view.scale - view.offset[0],
            (y - origin.y) / view.scale - view.offset[1], width / view.scale, height / view.scale];
    });
    const covers = ([, x, y, w, h], [, u, v, a, b]) =>
        Math.min(x + w, u + a) - Math.max(x, u) > 2 && Math.min(y + h, v + b) - Math.max(y, v) > 2;
    return boxes.flatMap((box, i) => boxes.slice(i + 1)
        .filter((other) => covers(box, other)).map((other) => `${box[0]} / ${other[0]}`));
}"""
SCALE = "() => app.canvas.ds.scale"
READABLE = 0.65  # zoom; the classic rendering draws no text below about 0.57
SAVE = """async () => ({
    workflow: JSON.parse(JSON.stringify(app.graph.serialize())),
    api: (await app.graphToPrompt()).output,
})"""
QUICK = """(prior) => {
    const training = {steps: 2, batch: 2, patch: 64};
    for (const node of app.graph.nodes) {
        for (const widget of node.widgets ?? []) {
            if (widget.name === "prior_name") widget.value = prior;
            if (widget.name === "calls") widget.value = 4;
            if (node.type === "BFR_FinetuneRestorer" && widget.name in training) {
                widget.value = training[widget.name];
            }
        }
    }
}"""
RUN = """() => new Promise((resolve) => {
    const seen = {previews: 0, images: 0, texts: []};
    app.api.addEventListener("b_preview_with_metadata", () => seen.previews++);
    app.api.addEventListener("executed", ({detail}) => {
        const {images = [], bfr_sheet = []} = detail.output ?? {};
        seen.images += images.length + bfr_sheet.length;
        seen.texts.push(...(detail.output?.bfr_report ?? []));
    });
    app.api.addEventListener("execution_success", () => resolve({...seen, ended: "success"}));
    app.api.addEventListener("execution_error", ({detail}) => resolve({...seen, ended: detail}));
    app.queuePrompt(0, 1);
})"""
MISSING = "() => app.graph.nodes.filter((node) => node.has_errors).map((node) => node.title)"


@pytest.fixture(params=["classic", "nodes 2.0"])
def page(request, server: Server, browser, tmp_path: Path):
    """The editor, ready, in one of the two renderings."""
    server.post("/settings/Comfy.TutorialCompleted", True)
    server.post("/settings/Comfy.VueNodes.Enabled", request.param == "nodes 2.0")
    for done in ("datasets", "output/face_restoration_runs"):  # else nothing would be made
        shutil.rmtree(server.base / done, ignore_errors=True)
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    about = {"licence": "none", "provenance": "made by a rule"}
    save_prior(folder / "tiny.safetensors", tiny_prior(64), about)
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    tab = context.new_page()
    tab.goto(server.url)
    tab.wait_for_function(READY, timeout=120_000)
    yield tab
    folder = Path(os.environ.get("BFR_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=folder / f"{request.node.name}.png")
    context.close()


def shape(workflow: dict[str, Any]) -> dict[str, Any]:
    """What a workflow does, without what the editor may round or renumber."""
    return {
        "nodes": {n["id"]: (n["type"], n.get("widgets_values")) for n in workflow["nodes"]},
        "links": sorted(link[:5] for link in workflow["links"]),
        "groups": sorted(group["title"] for group in workflow["groups"]),
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_opens_and_runs(path: Path, page, server: Server):
    workflow = json.loads(path.read_text("utf-8"))
    server.free()  # else nothing would run, and no preview come
    assert page.evaluate(LOAD, workflow) == []
    saved = page.evaluate(SAVE)
    assert shape(saved["workflow"]) == shape(workflow)
    for node in saved["api"].values():  # drawn by Nodes 2.0, read by nobody
        node["inputs"].pop("video-preview", None)
    assert saved["api"] == json.loads((path.parent / "api" / path.name).read_text("utf-8"))
    assert page.evaluate(SCALE) >= READABLE
    if own_checkpoint(path.stem):
        assert page.evaluate(OVERLAPS) == []
        return
    page.evaluate(QUICK, "tiny.safetensors")
    seen = page.evaluate(RUN)
    page.wait_for_timeout(2000)
    assert seen["ended"] == "success"
    assert seen["previews"] > 0 and seen["images"] >= 1
    assert "".join(seen["texts"][:1]).startswith(REPORTS.get(path.stem, ""))
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(MISSING) == []
