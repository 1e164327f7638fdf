"""Choosing faces, and the numbered picture that shows which is which."""

from __future__ import annotations

import pytest
import torch

from bfr.errors import InputError
from bfr.faces.overlay import draw_faces
from bfr.faces.select import SORTS, select_faces
from bfr.records import Face, FaceSet
from tests.portraits import face_at


def box(x0: float, y0: float, width: float, height: float, score: float = 0.9) -> Face:
    points = tuple((x0 + width / 2, y0 + height / 2 + i) for i in range(5))
    return Face((x0, y0, x0 + width, y0 + height), score, points)


WIDE = box(0, 50, 40, 10, 0.7)  # the longest side, the smallest area
SQUARE = box(60, 20, 30, 30, 0.9)
TALL = box(30, 0, 15, 35, 0.8)
FACES = FaceSet(((WIDE, SQUARE, TALL),), (100, 120))


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("size", (SQUARE, TALL, WIDE)),
        ("score", (SQUARE, TALL, WIDE)),
        ("left to right", (WIDE, TALL, SQUARE)),
        ("top to bottom", (TALL, SQUARE, WIDE)),
    ],
)
def test_sorting(sort: str, order: tuple[Face, ...]):
    assert select_faces(FACES, sort=sort).faces == (order,)
    assert select_faces(FACES, sort=sort, limit=2).faces == (order[:2],)
    assert sort in SORTS


def test_size_is_area_whatever_the_shape():
    assert WIDE.size > SQUARE.size
    assert select_faces(FACES, sort="size").faces[0][0] is SQUARE


def test_the_order_can_stay_as_it_is():
    assert select_faces(FACES, sort=None).faces == FACES.faces
    assert select_faces(FACES, sort=None, indices=[3, 1], limit=2).faces == ((WIDE, TALL),)


def test_equals_keep_their_order():
    twins = FaceSet(((box(50, 0, 9, 9), box(10, 0, 9, 9)),), (100, 120))
    assert select_faces(twins).faces == twins.faces


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"indices": [3, 1]}, {TALL, WIDE}),
        ({"indices": []}, set()),
        ({"min_size": 35}, {WIDE, TALL}),
        ({"max_size": 35}, {SQUARE, TALL}),
        ({"min_size": 31, "max_size": 39}, {TALL}),
        ({"min_score": 0.8}, {SQUARE, TALL}),
        ({"limit": 0}, set()),
        ({"indices": [1, 2], "min_score": 0.8}, {SQUARE}),
    ],
)
def test_filters(filters: dict, kept: set[Face]):
    assert set(select_faces(FACES, **filters).faces[0]) == kept


def test_limit_counts_after_the_filters():
    assert select_faces(FACES, min_size=31, limit=1).faces == ((TALL,),)


def test_a_mask_takes_the_faces_that_it_covers_a_tenth_of():
    mask = torch.zeros(1, 1, 100, 120)
    mask[..., 30:40, 70:80] = 1
    assert select_faces(FACES, mask=mask).faces == ((SQUARE,),)
    outside = FaceSet(((box(-50, -50, 20, 20),),), (100, 120))
    assert select_faces(outside, mask=torch.ones(1, 1, 100, 120)).faces == ((),)
    face = FaceSet(((box(20, 20, 40, 40),),), (100, 120))
    for rows, kept in ((3, 0), (5, 1), (100, 1)):  # of the 40 rows of its box, off its centre
        mask = torch.zeros(1, 1, 100, 120)
        mask[..., 20 : 20 + rows, :] = 1
        assert select_faces(face, mask=mask).count == kept


def test_an_unpainted_mask_of_any_size_is_no_mask():
    for size in ((100, 120), (64, 64)):
        assert select_faces(FACES, mask=torch.zeros(1, 1, *size)).count == FACES.count


def test_each_image_by_itself():
    batch = FaceSet(((WIDE, SQUARE), (), (TALL,)), (100, 120))
    assert select_faces(batch, limit=1).faces == ((SQUARE,), (), (TALL,))
    assert select_faces(batch, indices=[2]).faces == ((SQUARE,), (), ())
    masks = torch.zeros(3, 1, 100, 120)
    masks[0] = 1
    assert select_faces(batch, mask=masks).count == 2
    assert select_faces(batch, mask=masks[:1]).count == 3  # one mask serves all


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match=r"no face 4.*1 to 3"):
        select_faces(FACES, indices=[1, 4])
    with pytest.raises(InputError, match="no face 0"):
        select_faces(FACES, indices=[0])
    with pytest.raises(InputError, match="no image has a face"):
        select_faces(FaceSet(((),), (9, 9)), indices=[1])
    with pytest.raises(InputError, match="'age'"):
        select_faces(FACES, sort="age")
    with pytest.raises(InputError, match="9 pixels, got 5"):
        select_faces(FACES, min_size=9, max_size=5)
    with pytest.raises(InputError, match="got -1"):
        select_faces(FACES, limit=-1)
    with pytest.raises(InputError, match="1×1×50×60"):
        select_faces(FACES, mask=torch.ones(1, 1, 50, 60))
    with pytest.raises(InputError, match="2×1×100×120"):
        select_faces(FACES, mask=torch.ones(2, 1, 100, 120))


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
def test_drawing_shows_on_any_shade(shade: float):
    images = torch.full((2, 3, 200, 300), shade)
    before = images.clone()
    drawn = draw_faces(images, FaceSet(((face_at(150, 100, 40),), ()), (200, 300)))
    assert torch.equal(images, before)
    assert torch.equal(drawn[1], images[1])
    changed = (drawn[0] - images[0]).abs().amax(0)
    assert (changed > 0.35).sum() > 250  # a contrast to see, over a box and a number
    x0, y0, x1, y1 = (round(v) for v in face_at(150, 100, 40).box)
    assert changed[y0 - 1 : y0 + 2, x0:x1].amax(0).min() > 0.35  # the upper edge, all along
    assert changed[: y0 - 30].max() == changed[y1 + 10 :].max() == 0  # and nothing elsewhere


def test_drawing_grows_with_the_image():
    shares = []
    for scale in (1, 2):
        image = torch.zeros(1, 3, 700 * scale, 700 * scale)
        face = face_at(350 * scale, 350 * scale, 100 * scale)
        drawn = draw_faces(image, FaceSet(((face,),), (700 * scale, 700 * scale)))
        shares.append(float((drawn > 0.3).any(1).float().mean()))
    assert shares[1] == pytest.approx(shares[0], rel=0.3)


@pytest.mark.parametrize("x", [-80.0, 0.0, 60.0, 200.0])
def test_drawing_outside_and_tiny(x: float):
    image = torch.zeros(1, 3, 40, 60)
    upside_down = Face((30, 20, 10, 5), 0.5, ((1, 1),) * 5)
    faces = FaceSet(((face_at(x, 20, 30), face_at(5, 5, 1), upside_down),), (40, 60))
    assert draw_faces(image, faces).shape == image.shape


def test_drawing_refuses_other_images():
    faces = FaceSet(((WIDE,),), (100, 120))
    with pytest.raises(InputError, match="Detect the faces"):
        draw_faces(torch.zeros(1, 3, 120, 100), faces)
    with pytest.raises(InputError, match="2 images"):
        draw_faces(torch.zeros(2, 3, 100, 120), faces)
