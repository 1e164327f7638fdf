"""Masks on disk: found by their photograph's name, and as large as it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bfr.errors import InputError
from bfr.files.masks import find_mask, read_mask


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    pixels = np.zeros((20, 30), np.uint8)
    pixels[5:9] = 255
    (tmp_path / "old").mkdir()
    Image.fromarray(pixels).save(tmp_path / "old" / "a.png")
    return tmp_path / "old" / "a.png"


def test_white_is_painted(mask: Path):
    painted = read_mask(mask, (20, 30))
    assert painted.shape == (1, 1, 20, 30)
    assert (painted[..., 5:9, :] == 1).all() and painted.sum() == 4 * 30


def test_what_is_transparent_is_not(mask: Path):
    rgba = np.full((20, 30, 4), 255, np.uint8)
    rgba[10:, :, 3] = 0
    Image.fromarray(rgba).save(mask)
    painted = read_mask(mask, (20, 30))
    assert (painted[..., :10, :] == 1).all() and not painted[..., 10:, :].any()


def test_another_size_is_refused_in_words(mask: Path):
    with pytest.raises(InputError, match=r"31×20.*30×20"):
        read_mask(mask, (20, 31))


def test_a_mask_has_its_photographs_name(mask: Path, tmp_path: Path):
    assert find_mask(mask, Path("another.jpg")) == mask, "one mask is of the one photograph"
    assert find_mask(tmp_path, Path("old/a.jpg")) == mask
    assert find_mask(mask.parent, Path("a.JPG")) == mask
    assert find_mask(mask.parent, Path("b.jpg")) is None
    assert find_mask(mask.parent, Path("sub/a.jpg")) is None
    Image.open(mask).save(mask.with_suffix(".bmp"))
    with pytest.raises(InputError, match=r"a\.bmp and a\.png"):
        find_mask(mask.parent, Path("a.jpg"))
    with pytest.raises(InputError, match="nowhere"):
        find_mask(tmp_path / "nowhere", Path("a.jpg"))
