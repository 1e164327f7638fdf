"""Prints: dots of one ink with the picture's mean, on a lattice of the pitch and angle."""

from __future__ import annotations

import math

import pytest
import torch

from bfr.damage.prints import age_print, halftone
from bfr.errors import InputError


@pytest.mark.parametrize("level", [0.0, 0.1, 0.35, 0.5, 0.8, 1.0])
def test_the_mean_stays(level: float):
    printed = halftone(torch.full((1, 3, 96, 96), level), 8.0)
    assert printed.mean().item() == pytest.approx(level, abs=0.01)


def test_there_is_ink_and_paper_and_little_between():
    printed = halftone(torch.full((1, 3, 128, 128), 0.4), 16.0)
    between = ((printed > 0.1) & (printed < 0.9)).float().mean()
    assert printed.min() == 0 and printed.max() == 1 and between < 0.2


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0])
@pytest.mark.parametrize("pitch", [3.0, 8.0])
def test_dots_lie_as_asked(pitch: float, angle: float):
    printed = halftone(torch.full((1, 3, 240, 240), 0.7), pitch, angle)[0, 0]
    spectrum = torch.fft.fft2(printed - printed.mean()).abs()
    y, x = divmod(int(spectrum.argmax()), 240)
    fy, fx = min(y, 240 - y) / 240, min(x, 240 - x) / 240
    assert math.hypot(fy, fx) == pytest.approx(1 / pitch, rel=0.03)
    found = math.degrees(math.atan2(fy, fx))
    assert min(abs(found - angle), abs(90 - found - angle)) < 3


def test_a_picture_is_printed_grey_and_seen_from_afar_the_same():
    ramp = (
        torch.linspace(0, 1, 256).expand(1, 3, 256, 256)
        * torch.tensor([1, 0.8, 0.6])[:, None, None]
    )
    before = ramp.clone()
    printed = halftone(ramp, 6.0)
    assert torch.equal(printed[:, 0], printed[:, 2]) and torch.equal(ramp, before)
    grey = 0.299 * ramp[:, 0] + 0.587 * ramp[:, 1] + 0.114 * ramp[:, 2]
    seen = torch.nn.functional.avg_pool2d(printed[:, 0], 32)
    assert (seen - torch.nn.functional.avg_pool2d(grey, 32)).abs().max() < 0.05


def test_dots_too_fine_to_see_are_grey():
    printed = halftone(torch.full((1, 3, 32, 32), 0.6), 0.3)
    assert (printed - 0.6).abs().max() < 0.1


def test_age():
    picture = torch.rand(1, 3, 8, 8)
    assert torch.equal(age_print(picture, 0, 0), picture)
    old = age_print(picture, 0.5, 1.0)
    assert (old.amax((2, 3)) - old.amin((2, 3)) < picture.amax((2, 3)) - picture.amin((2, 3))).all()
    red, _, blue = age_print(torch.ones(1, 3, 1, 1), 0, 1.0).flatten()
    assert red == 1 and blue < 0.7


@pytest.mark.parametrize("pitch", [0.0, -2.0, math.nan, math.inf])
def test_a_pitch_that_is_none_is_refused(pitch: float):
    with pytest.raises(InputError, match="pitch"):
        halftone(torch.zeros(1, 3, 8, 8), pitch)
