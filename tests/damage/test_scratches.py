"""Scratches drawn over a photograph."""

from __future__ import annotations

import pytest
import torch

from bfr.damage.scratches import draw_scratches
from bfr.errors import InputError


def test_the_same_seed_draws_the_same_scratches_and_little_else():
    image = torch.full((2, 3, 90, 120), 0.3)
    scratched = draw_scratches(image, 3)
    assert torch.equal(scratched, draw_scratches(image, 3))
    assert not torch.equal(scratched, draw_scratches(image, 4))
    assert torch.equal(scratched[0], scratched[1])
    share = (scratched != image).float().mean()
    assert 0.02 < share < 0.4 and (image == 0.3).all()


def test_a_negative_count_is_named():
    with pytest.raises(InputError, match="-1"):
        draw_scratches(torch.rand(1, 3, 8, 8), 0, count=-1)
