"""Select Faces in the editor: clicks take faces out and in, and the next run keeps the others."""

from __future__ import annotations

import pytest

from tests.browser.graphs import CELLS, STATUS, make, run, settle, values

pytestmark = pytest.mark.browser

CLEAN = {"damage": "none"}
NODES = [
    ["BFR_LoadExamplePhoto", 20, 40, {"photo": "eileen_collins.jpg", **CLEAN}],
    ["BFR_LoadExamplePhoto", 20, 420, {"photo": "grace_hopper.jpg", **CLEAN}],
    ["ImageStitch", 330, 40, {}],
    ["BFR_DetectFaces", 330, 320, {}],
    ["BFR_SelectFaces", 680, 40, {}],
    ["BFR_AlignFaces", 1080, 40, {}],
    ["PreviewImage", 1080, 320, {}],
]
LINKS = [
    [0, 0, 2, "image1"],
    [1, 0, 2, "image2"],
    [2, 0, 3, "image"],
    [3, 0, 4, "faces"],
    [2, 0, 5, "image"],
    [4, 0, 5, "faces"],
    [5, 0, 6, "images"],
]
SHOW = """([from, to]) => app.graph.getNodeById(from).connect(
    0, app.graph.getNodeById(to), "image")"""
PRESSED = "buttons => buttons.map(button => button.getAttribute('aria-pressed') === 'true')"
HEIGHT = "(id) => app.graph.getNodeById(id).size[1]"
SHOWN = "(id) => app.nodeOutputs[id].images.length"


def test_a_click_takes_a_face_out_and_in(editor):
    *_, stitch, _, select, _, preview = make(editor, NODES, LINKS)
    status, faces = editor.locator(STATUS), editor.locator(CELLS)
    run(editor)
    assert not status.is_visible() and faces.count() == 0, "there is no picture to show"
    small = editor.evaluate(HEIGHT, select)
    editor.evaluate(SHOW, [stitch, select])
    run(editor)
    assert faces.count() == 2 and "0 of 2 left out" in status.inner_text()
    assert editor.evaluate(HEIGHT, select) > small + 200

    faces.nth(1).click()
    assert values(editor, select, "indices") == ["1"]
    assert faces.evaluate_all(PRESSED) == [False, True]
    faces.nth(0).dispatch_event("click")
    editor.get_by_text("One face must stay").last.wait_for()
    assert values(editor, select, "indices") == ["1"]
    run(editor)
    assert faces.evaluate_all(PRESSED) == [False, True]
    assert editor.evaluate(SHOWN, preview) == 1

    faces.nth(1).dispatch_event("click")
    assert values(editor, select, "indices") == [""], "all are kept again"
    editor.keyboard.press("Control+z")
    settle(editor, select, {"indices": "1"})
