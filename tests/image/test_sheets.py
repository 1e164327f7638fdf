"""Sheets: pictures keep their pixels and places, text stays beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bfr.errors import InputError
from bfr.image.sheets import AMBER, RED, lay_out, sheet

PAPER = torch.tensor([0x23, 0x23, 0x23])[:, None] / 255


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return torch.rand(6, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def place_of(picture: Tensor, drawn: Tensor) -> tuple[int, int]:
    """(y, x) of the one place in a sheet where a picture's pixels are, exactly."""
    height, width = picture.shape[-2:]
    corners = (drawn[0, :, : 1 - height, : 1 - width] == picture[:, :1, :1]).all(0).nonzero()
    found = [
        [y, x]
        for y, x in corners.tolist()
        if torch.equal(drawn[0, :, y : y + height, x : x + width], picture)
    ]
    assert len(found) == 1
    y, x = found[0]
    return y, x


def has_ink(part: Tensor) -> bool:
    return bool((part - PAPER[..., None]).abs().max() > 0.3)


def test_pictures_keep_their_pixels_row_by_row(noise: Tensor):
    drawn = sheet(noise, [f"number {i}" for i in range(6)], columns=3, title="All of them")
    assert drawn.shape[:2] == (1, 3) and drawn.dtype == torch.float32
    assert drawn.min() >= 0 and drawn.max() <= 1
    places = [place_of(picture, drawn) for picture in noise]
    assert places == sorted(places)
    assert len({y for y, _ in places}) == 2 and len({x for _, x in places}) == 3


def test_boxes_are_around_pictures_and_captions(noise: Tensor):
    for captions in ([], ["below"] * 6):
        laid = lay_out(noise, captions, columns=3, title="All of them")
        assert torch.equal(laid.picture, sheet(noise, captions, columns=3, title="All of them"))
        for picture, (left, top, right, bottom) in zip(noise, laid.boxes, strict=True):
            assert place_of(picture, laid.picture) == (top, left) and right == left + 48
            below = laid.picture[..., top + 32 : bottom, left:right]
            assert has_ink(below[0]) if captions else bottom == top + 32


def test_a_batch_equals_a_list_and_the_input_is_left_alone(noise: Tensor):
    before = noise.clone()
    labels = list("abcdef")
    assert torch.equal(sheet(noise, labels), sheet(list(noise), labels))
    assert torch.equal(noise, before)


def test_every_text_is_drawn_in_its_place(noise: Tensor):
    """Each text changes the sheet only on its own side of the pictures."""
    words = {"title": "Title", "column_labels": ["a", "b", "c"], "row_labels": ["M", "I"]}
    blank = {"title": " ", "column_labels": [" "] * 3, "row_labels": ["M", "M"]}
    captions = [" "] * 6

    def drawn(**given) -> Tensor:
        return sheet(noise, captions, columns=3, **(blank | given))

    y, x = place_of(noise[0], drawn())
    for name, given in words.items():
        inked = (drawn(**{name: given}) != drawn())[0].any(0).nonzero()
        if name == "row_labels":
            assert inked[:, 1].max() < x and inked[:, 0].min() >= y
        else:
            assert inked[:, 0].max() < y
    captions = ["below"] * 6
    inked = drawn() - sheet(noise, [" "] * 6, columns=3, **blank)
    assert inked[..., : y + 32, :].abs().max() == 0 and inked.abs().max() > 0.3


def test_long_text_wraps_and_is_cut_inside_its_cell(noise: Tensor):
    short = sheet(noise[:1], ["x"], cell_size=64)
    long = sheet(noise[:1], ["a_file_name_without_spaces_" * 5], cell_size=64)
    assert long.shape == short.shape
    two = sheet(noise[:1], ["two words that wrap"], cell_size=64)
    endless = sheet(noise[:1], ["many words " * 50], cell_size=64)
    most = sheet(noise[:1], ["1\n2\n3"], cell_size=64)
    assert short.shape[2] < two.shape[2] <= endless.shape[2] == most.shape[2]
    margin = 12
    for drawn in (long, two, endless):
        assert not has_ink(drawn[0, :, :, : margin - 1])
        assert not has_ink(drawn[0, :, :, margin + 64 + 1 :])


def test_non_breaking_spaces_hold_figures_and_units_together(noise: Tensor):
    apart = sheet(noise[:1], ["like 38.2 dB"], cell_size=48)
    together = sheet(noise[:1], ["like 38.2\u00a0dB"], cell_size=48)
    assert apart.shape == together.shape and not torch.equal(apart, together)


def test_accents_and_signs_become_what_the_font_has(noise: Tensor):
    assert torch.equal(sheet(noise[:1], ["é × –"]), sheet(noise[:1], ["e x -"]))


def test_a_frame_surrounds_its_picture_only(noise: Tensor):
    plain = sheet(noise, columns=3)
    framed = sheet(noise, columns=3, frames=[RED, None, None, None, AMBER, None])
    assert framed.shape == plain.shape
    changed = (framed != plain)[0].any(0)
    y, x = place_of(noise[0], framed)
    red = torch.tensor([0xE5, 0x48, 0x4D])[:, None] / 255
    assert torch.equal(framed[0, :, y - 1, x : x + 48], red.expand(3, 48))
    assert torch.equal(framed[0, :, y : y + 32, x + 48], red.expand(3, 32))
    for index, picture in enumerate(noise):
        y, x = place_of(picture, framed)
        ring = changed[y - 3 : y + 35, x - 3 : x + 51].sum() > 38 * 54 - 32 * 48 - 1
        assert ring == (index in (0, 4))


def test_other_sizes_are_letterboxed(noise: Tensor):
    red = torch.zeros(3, 40, 20)
    red[0] = 1
    drawn = sheet([red], cell_size=80)
    where = ((drawn[0, 0] > 0.9) & (drawn[0, 1] < 0.1)).nonzero()
    height, width = (where.amax(0) - where.amin(0) + 1).tolist()
    assert (height, width) == (80, 40)
    wide = noise[0]  # 32×48: in cells of 40×48 it needs no scaling
    assert place_of(wide, sheet([red, wide], columns=2))[1] > 48


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 20, 50])
def test_any_count_is_laid_out(count: int):
    drawn = sheet(torch.full((count, 3, 16, 16), 0.9))
    assert drawn.shape[3] > 0.5 * drawn.shape[2]
    assert int((drawn[0, 0] == 0.9).sum()) == count * 256


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": ["a"]}, "6 labels or none, got 1"),
        ({"columns": 3, "row_labels": ["a"]}, "2 row labels"),
        ({"columns": 3, "column_labels": ["a"]}, "3 column labels"),
        ({"frames": ["red"]}, "6 frames"),
        ({"frames": ["redish", *[None] * 5]}, "got 'redish'"),
        ({"frames": ["red"] * 6, "gap": 2}, "a gap of 6"),
        ({"columns": 0}, "0 columns"),
        ({"cell_size": 4}, "4×4"),
    ],
)
def test_what_does_not_fit_is_refused(noise: Tensor, given: dict, says: str):
    with pytest.raises(InputError, match=says):
        sheet(noise, **given)


def test_no_pictures_or_no_pictures_at_all():
    with pytest.raises(InputError, match="at least one"):
        sheet([])
    with pytest.raises(InputError, match="picture 0"):
        sheet([torch.zeros(1, 32, 32)])
    with pytest.raises(InputError, match="finite"):
        sheet([torch.full((3, 32, 32), torch.nan)])
