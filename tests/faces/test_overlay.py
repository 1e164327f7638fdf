"""The numbered picture of the faces, and the sheet of it that can be clicked."""

from __future__ import annotations

import pytest
import torch

from bfr.errors import InputError
from bfr.faces.overlay import SHEET_SIDE, draw_faces, lay_out_faces
from bfr.records import Face, FaceSet

POINTS = ((30.0, 40.0), (50.0, 40.0), (40.0, 50.0), (32.0, 60.0), (48.0, 60.0))


def face_set(*boxes: tuple[float, float, float, float], size: tuple[int, int]) -> FaceSet:
    return FaceSet((tuple(Face(box, 1.0, POINTS) for box in boxes),), size)


def test_a_small_picture_is_shown_as_it_is():
    image = torch.rand(1, 3, 90, 120)
    faces = face_set((20, 25, 60, 75), (70, 10, 110, 60), size=(90, 120))
    sheet = lay_out_faces(image, faces)
    assert torch.equal(sheet.picture, draw_faces(image, faces))
    assert sheet.boxes == ((20, 26, 60, 76), (70, 10, 110, 60))


def test_a_large_picture_is_shrunk_and_its_cells_with_it():
    size = (SHEET_SIDE, 2 * SHEET_SIDE)
    image = torch.zeros(1, 3, *size)
    sheet = lay_out_faces(image, face_set((200, 100, 600, 500), size=size))
    assert sheet.picture.shape == (1, 3, SHEET_SIDE // 2, SHEET_SIDE)
    (left, top, right, bottom), *_ = sheet.boxes
    assert (left, top, right, bottom) == (100, 50, 300, 250)
    frame = sheet.picture[0, :, (top + bottom) // 2].amax(0)
    assert frame[left - 2 : left + 3].max() > 0.2 and frame[right - 2 : right + 3].max() > 0.2


def test_a_cell_ends_where_its_picture_does():
    faces = face_set((-30, -10, 40, 50), (90, 60, 150, 110), size=(90, 120))
    boxes = lay_out_faces(torch.zeros(1, 3, 90, 120), faces).boxes
    assert boxes[0][:2] == (0, 0) and boxes[1][2:] == (120, 90)


def test_faces_of_another_picture_are_refused():
    with pytest.raises(InputError, match="80"):
        lay_out_faces(torch.zeros(1, 3, 80, 120), face_set((1, 1, 9, 9), size=(90, 120)))
