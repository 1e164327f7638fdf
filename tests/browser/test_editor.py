"""The workflows in ComfyUI's editor, in a real browser, in both of its renderings.

``BFR_RECORD=1`` writes each workflow again as the editor saves it, with its API twin.
``BFR_SCREENSHOTS=folder`` keeps the screenshots.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bfr.prior.prior import save_prior
from tests.comfyui.server import PACK, Server
from tests.priors import tiny_prior

pytestmark = pytest.mark.browser

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
REPORTS = {
    "restore_photo_simple": "1 face restored in 1 image",
    "restore_video": "1 face followed",
}
READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
LOAD = """async (workflow) => {
    const missing = workflow.nodes.map(n => n.type)
        .filter(type => !(type in LiteGraph.registered_node_types));
    await app.loadGraphData(workflow);
    return missing;
}"""
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
        seen.images += detail.output?.images?.length ?? 0;
        seen.texts.push(...(detail.output?.text ?? []));
    });
    app.api.addEventListener("execution_success", () => resolve({...seen, ended: "success"}));
    app.api.addEventListener("execution_error", ({detail}) => resolve({...seen, ended: detail}));
    app.queuePrompt(0, 1);
})"""
SHOW_ALL = "() => app.extensionManager.command.execute('Comfy.Canvas.FitView')"


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
    context = browser.new_context(viewport={"width": 1920, "height": 1080})
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
    if os.environ.get("BFR_RECORD"):
        write(path, saved["workflow"])
        write(path.parent / "api" / path.name, saved["api"])
        workflow = saved["workflow"]
    assert shape(saved["workflow"]) == shape(workflow)
    assert saved["api"] == json.loads((path.parent / "api" / path.name).read_text("utf-8"))
    page.evaluate(QUICK, "tiny.safetensors")
    seen = page.evaluate(RUN)
    for _ in range(2):  # the second time with the sizes that nodes took with their pictures
        page.evaluate(SHOW_ALL)
        page.wait_for_timeout(2000)
    assert seen["ended"] == "success"
    assert seen["previews"] > 0 and seen["images"] >= 2
    assert "".join(seen["texts"][:1]).startswith(REPORTS.get(path.stem, ""))


def write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, "utf-8")
