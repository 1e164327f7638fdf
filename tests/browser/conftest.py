"""A ComfyUI, a browser and its editor for the tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bfr.prior.load import save_prior
from harness import PACK_NAME
from harness.browser import READY, find_browser, open_browser
from harness.server import Server
from tests.comfyui.conftest import server  # noqa: F401 (a fixture)
from tests.priors import tiny_prior


@pytest.fixture(scope="session")
def browser():
    if find_browser() is None:
        pytest.skip("no browser: install chromium, or set CHROMIUM to its program")
    with open_browser() as running:
        yield running


@pytest.fixture(params=["classic", "nodes 2.0"])
def editor(request, server: Server, browser, tmp_path: Path):  # noqa: F811
    """An empty graph in the editor, in one of the two renderings; web/ must raise no error."""
    server.post("/settings/Comfy.TutorialCompleted", True)
    server.post("/settings/Comfy.VueNodes.Enabled", request.param == "nodes 2.0")
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    about = {"licence": "none", "provenance": "made by a rule"}
    save_prior(folder / "tiny.safetensors", tiny_prior(64), about)
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    tab, errors = context.new_page(), []
    tab.set_default_timeout(120_000)
    tab.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    tab.goto(server.url)
    tab.wait_for_function(READY)
    tab.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    tab.evaluate("() => app.canvas.ds.reset()")
    yield tab
    folder = Path(os.environ.get("BFR_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=folder / f"{request.node.name}.png")
    context.close()
    assert not [error for error in errors if f"extensions/{PACK_NAME}" in error]
