"""A ComfyUI, a browser and its editor for the tests of this folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bfr.prior.load import save_prior
from tests.comfyui.conftest import server  # noqa: F401 (a fixture)
from tests.comfyui.server import PACK_NAME, Server
from tests.priors import tiny_prior

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install playwright to run these tests"
    )
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no browser: install chromium, or set CHROMIUM to its program")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=OPTIONS)
        yield chromium
        chromium.close()


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
