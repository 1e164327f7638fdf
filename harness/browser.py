"""A headless Chromium, and the editor of a running ComfyUI in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
READY = "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
"""JavaScript that is true once the editor has loaded."""


def find_browser() -> str | None:
    """The program that $CHROMIUM names, or the first of `NAMES` on the PATH, if any."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Starts the browser, and ends it afterwards.

    Raises:
        FileNotFoundError: if there is none.
    """
    program = find_browser()
    if program is None:
        raise FileNotFoundError("There is no browser: install chromium, or set CHROMIUM to one.")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()
