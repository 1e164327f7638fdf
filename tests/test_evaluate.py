"""Figures with known answers."""

from __future__ import annotations

import pytest
import torch

from bfr.errors import InputError
from bfr.evaluate import psnr


def test_psnr_of_a_known_error():
    images = torch.full((2, 3, 8, 8), 0.5)
    shifted = images + torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(psnr(shifted, images).float(), torch.tensor([20.0, 40.0]))
    assert torch.isinf(psnr(images, images)).all()


def test_psnr_counts_only_the_mask():
    images, reference = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    images[..., 0, 0] = 1
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 0, 0] = 0
    assert torch.isinf(psnr(images, reference, mask)).all()
    assert psnr(images, reference, 1 - mask).item() == pytest.approx(0)


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="shape"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8))
