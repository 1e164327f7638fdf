"""Sweep Guidance in the editor: a click copies a cell's settings into the node that samples."""

from __future__ import annotations

import pytest

from tests.browser.graphs import CELLS, STATUS, make, run, settle, values

pytestmark = pytest.mark.browser

GUIDANCE = {"start": 8, "stop": 4, "calls": 2, "sampler": "ddim", "suit_prior": False}
AXES = {"across": "low-pass factor", "across_values": "4, 8", "down": "stop"}
NODES = [
    ["EmptyImage", 20, 40, {"width": 64, "height": 64, "color": 0x808080}],
    ["BFR_LoadPrior", 20, 280, {"prior_name": "tiny.safetensors"}],
    ["BFR_SweepGuidance", 330, 40, {**GUIDANCE, **AXES, "down_values": "2, 9"}],
    ["PreviewImage", 20, 560, {}],
    ["BFR_SamplePseudoTargets", 760, 40, {}],
    ["BFR_SamplePseudoTargets", 1160, 40, {}],
]
LINKS = [
    [0, 0, 2, "crops"],
    [1, 0, 2, "prior"],
    [2, 0, 3, "images"],
    [0, 0, 4, "crops"],
]
COPIED = ("factor", "stop", "start", "sampler")
REMOVE = "(ids) => ids.forEach((id) => app.graph.remove(app.graph.getNodeById(id)))"


def test_a_click_copies_the_settings(editor):
    *_, sweep, _, sampler, other = make(editor, NODES, LINKS)
    status, cells = editor.locator(STATUS), editor.locator(CELLS)
    assert "Run to see the grid" in status.inner_text()
    before = values(editor, sampler, *COPIED)
    run(editor)
    disabled = "buttons => buttons.map(button => button.getAttribute('aria-disabled') === 'true')"
    assert cells.evaluate_all(disabled) == [False, False, True, True]
    cells.nth(1).hover()
    assert "stop 2, low-pass factor 8" in status.inner_text() and "like" in status.inner_text()

    cells.nth(1).click()
    assert values(editor, sampler, *COPIED) == [8, 2, 8, "ddim"]
    assert values(editor, other, *COPIED) == before, "the one with the sweep's crops is meant"
    editor.get_by_text("Copied to Sample Pseudo Targets").last.wait_for()
    cells.nth(1).press("ArrowLeft")
    editor.keyboard.press("Enter")
    assert values(editor, sampler, *COPIED) == [4, 2, 8, "ddim"]
    for copied in ([8, 2, 8, "ddim"], before):
        editor.keyboard.press("Control+z")
        settle(editor, sampler, dict(zip(COPIED, copied, strict=True)))

    cells.nth(2).dispatch_event("click")  # it is said to be disabled
    editor.get_by_text("stop must be below start").last.wait_for()
    assert values(editor, sampler, *COPIED) == before
    editor.evaluate(REMOVE, [sampler, other])
    cells.nth(0).click()
    editor.get_by_text("Add a Sample Pseudo Targets node").last.wait_for()
    assert values(editor, sweep, "stop") == [4], "the sweep itself is left alone"
