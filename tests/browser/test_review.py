"""Review Training Pairs in the editor: clicks and keys mark pairs, and the set remembers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bfr.pairs.folder import read_pairs
from harness.browser import READY
from harness.server import Server
from tests.browser.graphs import CELLS, STATUS, make, run, values
from tests.pair_sets import build, photograph, stand_in

pytestmark = pytest.mark.browser

NODES = [
    ["BFR_LoadTrainingPairs", 40, 80, {"pairs_name": "album"}],
    ["BFR_ReviewTrainingPairs", 400, 80, {}],
]
PRESSED = "buttons => buttons.map(button => button.getAttribute('aria-pressed') === 'true')"
TYPE = """([id, name, text]) => {
    const widget = app.graph.getNodeById(id).widgets.find((widget) => widget.name === name);
    widget.value = text;
    widget.callback(text);
}"""
FOCUSED = f"() => [...document.querySelectorAll('{CELLS}')].indexOf(document.activeElement)"


@pytest.fixture(autouse=True)
def album(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of four pairs."""
    stand_in(monkeypatch)
    for number in range(4):
        photograph(tmp_path / "photos" / f"{number}.png", seed=number)
    folder = server.base / "datasets" / "album"
    shutil.rmtree(folder, ignore_errors=True)
    build(tmp_path / "photos", folder)
    return folder


def statuses(folder: Path) -> list[str]:
    return [pair.status for pair in read_pairs(folder).pairs]


def test_pairs_are_rejected_by_click_and_key(editor, album: Path, server: Server):
    _, review = make(editor, NODES, [[0, 0, 1, "pairs"]])
    status, pairs = editor.locator(STATUS), editor.locator(CELLS)

    def marks() -> list[str]:
        return values(editor, review, "rejected", "kept")

    assert "Run to see the contact sheet" in status.inner_text()
    run(editor)
    names = [pair.name for pair in read_pairs(album).pairs]
    assert [pairs.nth(place).get_attribute("title").split()[1] for place in range(4)] == names
    assert "0 of 4 rejected" in status.inner_text()

    pairs.nth(1).click()
    assert marks() == [names[1], ""]
    assert pairs.evaluate_all(PRESSED) == [False, True, False, False]
    pairs.nth(1).press("ArrowDown")
    for key in ("Space", "r", "k"):
        editor.keyboard.press(key)
    assert editor.evaluate(FOCUSED) == 2 and marks() == [f"{names[1]}, {names[2]}", ""]
    editor.keyboard.press("Control+z")
    editor.wait_for_function(f"() => !document.querySelector('{CELLS}:focus')")
    assert marks() == [names[1], ""], "and the sheet is still there, and works:"
    assert pairs.evaluate_all(PRESSED) == [False, True, False, False]
    for expected in ("", names[1]):
        pairs.nth(1).click()
        assert marks() == [expected, ""]

    run(editor)
    assert statuses(album) == ["kept", "rejected", "kept", "kept"]
    pairs.nth(1).click()
    assert marks() == ["", names[1]], "else the set's own mark would stay"
    editor.evaluate(TYPE, [review, "rejected", "1, 3-4"])
    assert pairs.evaluate_all(PRESSED) == [True, False, True, True]
    pairs.nth(2).click()
    assert marks() == ["1, 4", names[1]]
    run(editor)
    assert statuses(album) == ["rejected", "kept", "kept", "rejected"]
    assert editor.evaluate(FOCUSED) == 2, "one can go on with the keys"
    editor.mouse.move(0, 0)
    assert "2 of 4 rejected" in status.inner_text()

    editor.wait_for_timeout(3000)  # the editor keeps its draft after a while
    shutil.rmtree(server.base / "temp")
    editor.reload()
    editor.wait_for_function(READY)
    editor.wait_for_selector(STATUS)
    editor.wait_for_function(f"() => document.querySelector('{STATUS}').innerText.includes('gone')")
    assert marks() == ["1, 4", names[1]] and pairs.count() == 0
