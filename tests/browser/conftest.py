"""A ComfyUI and a browser for the tests of this folder."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.comfyui.conftest import server  # noqa: F401 (a fixture)

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


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
