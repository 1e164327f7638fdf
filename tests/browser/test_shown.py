"""Compare Before and After, and Show Report, in the editor in both of its renderings."""

from __future__ import annotations

import pytest

from tests.browser.graphs import make, run

pytestmark = pytest.mark.browser

NODES = [
    ["EmptyImage", 20, 40, {"width": 64, "height": 32, "batch_size": 2, "color": 0xFF0000}],
    ["EmptyImage", 20, 300, {"width": 128, "height": 64, "batch_size": 2, "color": 0x00FF00}],
    ["BFR_CompareImages", 330, 40, {}],
    ["BFR_RestorePhoto", 330, 400, {}],
    ["BFR_ShowReport", 760, 40, {}],
]
LINKS = [
    [0, 0, 2, "before"],
    [1, 0, 2, "after"],
    [0, 0, 3, "image"],
    [3, 3, 4, "report"],
]
AT = "(stage) => parseFloat(stage.style.getPropertyValue('--at'))"


def test_the_slider_follows_the_mouse_and_the_keys(editor):
    make(editor, NODES, LINKS)
    run(editor)
    stage = editor.locator(".bfr-pictures")
    assert stage.locator("img").count() == 2
    assert stage.locator("img").evaluate_all("(all) => all.every((img) => img.naturalWidth > 0)")
    box = stage.bounding_box()
    editor.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert abs(stage.evaluate(AT) - 25) < 2
    stage.locator("input").focus()
    before = stage.evaluate(AT)
    editor.keyboard.press("ArrowRight")
    assert stage.evaluate(AT) != before
    assert "1 / 2" in editor.locator(".bfr-leaf").inner_text()
    editor.get_by_label("Next").click()
    assert "2 / 2" in editor.locator(".bfr-leaf").inner_text()


def test_a_report_is_formatted(editor):
    make(editor, NODES, LINKS)
    run(editor)
    shown = editor.locator("p", has_text="0 faces restored in 2 images").last
    assert "no face found" in shown.inner_text()
