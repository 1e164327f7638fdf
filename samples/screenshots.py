"""Takes the screenshots of the help pages and the README: each workflow in the editor after a run.

``make screenshots COMFYUI=/path`` starts a real ComfyUI and a headless Chromium, runs every
workflow of the gallery as it is, and writes to ``web/docs/images``: the whole graph, and the
groups of `CLOSE`. ``python -m samples.screenshots restore_photo`` takes but one of them.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from harness import PACK
from harness.browser import READY, open_browser
from harness.server import Server, find_comfyui, running_server
from samples.pictures import FOLDER
from samples.templates.layouts import own_checkpoint

WORKFLOWS = [
    path for path in sorted((PACK / "workflows").glob("*.json")) if not own_checkpoint(path.stem)
]
# Groups that are also shown from near, by the beginning of their titles, and the files' names.
CLOSE = {
    "face_tune_1_guidance": ("4", "sweep"),
    "face_tune_2_build_pairs": ("3", "review"),
    "face_tune_3_train_restorer": ("4", "finetune"),
    "face_tune_4_compare_restorers": ("3", "measure"),
}
WIDTH, HEIGHT = 1600, 900
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.VueNodes.Enabled": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
}
MOST_BYTES = 150_000

OPEN = "(workflow) => app.loadGraphData(workflow)"
RUN = """() => new Promise((resolve) => {
    app.api.addEventListener("execution_success", () => resolve(null), {once: true});
    app.api.addEventListener("execution_error", ({detail}) => resolve(detail), {once: true});
    app.queuePrompt(0, 1);
})"""
# Fills the canvas with the graph, or with the group of that title, and tells where it is then.
FIT = """(title) => {
    const items = [...app.graph.groups, ...app.graph.nodes];
    const boxes = items.filter((item) => item.title.startsWith(title))
        .map((item) => [...item.boundingRect]).slice(0, title ? 1 : items.length);
    const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])) - 20);
    const [right, bottom] = [0, 1].map(
        (axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])) + 20);
    const view = app.canvas.ds, screen = app.canvas.canvas.getBoundingClientRect();
    view.fitToBounds([left, top, right - left, bottom - top], {zoom: 0.98});
    app.canvas.setDirty(true, true);
    return {
        x: Math.max(0, screen.x + (left + view.offset[0]) * view.scale),
        y: Math.max(0, screen.y + (top + view.offset[1]) * view.scale),
        width: (right - left) * view.scale,
        height: (bottom - top) * view.scale,
    };
}"""
FOCUS = "(on) => { app.extensionManager.focusMode = on; }"


def main(names: list[str]) -> None:
    comfyui = find_comfyui()
    if comfyui is None:
        sys.exit("There is no ComfyUI: set COMFYUI to its folder.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        running_server(comfyui, Path(base)) as server,
        open_browser() as browser,
    ):
        page = open_editor(browser, server)
        for path in WORKFLOWS:
            if not names or path.stem in names:
                take(page, path)


def open_editor(browser: Any, server: Server) -> Page:
    """The editor in Nodes 2.0, which draws all that the workflows show."""
    for setting, value in SETTINGS.items():
        server.post(f"/settings/{setting}", value)
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(600_000)
    page.goto(server.url)
    page.wait_for_function(READY)
    return page


def take(page: Page, path: Path) -> None:
    """Opens a workflow, runs it, and writes its pictures."""
    page.evaluate(OPEN, json.loads(path.read_text("utf-8")))
    error = page.evaluate(RUN)
    if error is not None:
        raise RuntimeError(f"{path.stem}: {error['node_type']}: {error['exception_message']}")
    views = {f"workflow_{path.stem}": ""}
    if path.stem in CLOSE:
        title, name = CLOSE[path.stem]
        views[name] = title
    page.evaluate(FOCUS, True)
    for name, title in views.items():
        for _ in range(2):  # the second time with the sizes that nodes took with their pictures
            place = page.evaluate(FIT, title)
            page.wait_for_timeout(3000)
        save(page.screenshot(clip=place), FOLDER / f"{name}.jpg")
    page.evaluate(FOCUS, False)


def save(screenshot: bytes, path: Path) -> None:
    """Writes a JPEG, as good as the size allows."""
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    for quality in range(90, 40, -5):
        target = io.BytesIO()
        image.save(target, "JPEG", quality=quality, optimize=True)
        if target.tell() < MOST_BYTES:
            break
    path.write_bytes(target.getvalue())
    print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
