"""Damage that is measured on faces, and put on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bfr.damage.degrade import DEGRADATIONS, NO_DAMAGE, degrade_faces
from bfr.damage.learn import learn_damage
from bfr.damage.learned import LearnedDamage, draw_pair
from bfr.errors import InputError
from bfr.files.photos import read_photo
from bfr.image.resize import resize_square
from bfr.image.tensors import luma

ROOT = Path(__file__).resolve().parents[2]
SIZE = 128


@pytest.fixture(scope="module")
def clean() -> Tensor:
    photo = read_photo(ROOT / "samples" / "grace_hopper.jpg").pixels
    side = min(photo.shape[-2:])
    parts = [photo[..., y : y + side // 2, x : x + side // 2] for y in (0, 60) for x in (60, 150)]
    return torch.cat([resize_square(part, SIZE).clamp(0, 1) for part in parts])


def learned(clean: Tensor, **changes: object) -> LearnedDamage:
    return learn_damage(clean, degrade_faces(clean, replace(NO_DAMAGE, **changes), seed=1))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("deviation", [2.0, 4.0, 8.0])
def test_the_blur_is_found_under_noise(clean: Tensor, deviation: float):
    found = learned(clean, blur=(deviation, deviation), noise=(6.0, 6.0))
    assert (found.blurs * 512 / SIZE).median() == pytest.approx(deviation, rel=0.15)


@pytest.mark.parametrize("deviation", [4.0, 12.0])
@pytest.mark.parametrize("grain", [0.0, 1.0])
def test_the_noise_is_found(clean: Tensor, deviation: float, grain: float):
    middle = 0.2 + 0.6 * clean  # nothing is cut off at black and white
    found = learned(middle, noise=(deviation, deviation), grain=grain)
    assert found.noises.median() == pytest.approx(deviation, rel=0.1)
    assert ("in colour" in found.describe()) == (not grain)
    assert (found.tones - 1).abs().max() < 0.3


def test_coarse_noise_is_told_from_fine(clean: Tensor):
    fine, coarse = (learned(clean, noise=(9.0, 9.0), downscale=(n, n)) for n in (4.0, 12.0))

    def slow_share(damage: LearnedDamage) -> float:
        noise = torch.fft.fftshift(damage.noise.sum((0, 1)))
        return float(noise[10:23, 10:23].sum() / noise.sum())

    assert slow_share(fine) < 0.3 < 0.7 < slow_share(coarse)


def test_fading_tint_and_lost_colours_are_found(clean: Tensor):
    found = learned(clean, fade=(0.4, 0.4), tint=(0.5, 0.5), grey=1.0)
    assert found.grey.all() and not learned(clean, fade=(0.4, 0.4)).grey.any()
    paper = 1 - 0.5 * torch.tensor([0.0, 0.12, 0.35])  # `age_print`
    expected = torch.stack([0.6 * paper, 0.16 * paper], 1)
    assert torch.allclose(found.levels.mean(0), expected, atol=0.02)


def test_what_has_no_colours_clean_gets_none_back(clean: Tensor):
    """A restorer must not learn to colour grey photographs."""
    grey = luma(clean).expand(-1, 3, -1, -1) * torch.tensor([1.0, 0.95, 0.85])[:, None, None]
    found = learn_damage(grey, degrade_faces(grey, replace(NO_DAMAGE, noise=(4.0, 4.0)), 2))
    assert found.colourless.all() and not found.grey.any()
    kept, damaged = draw_pair(clean[0], found, 3)
    assert torch.allclose(luma(kept[None]), luma(clean[:1]), atol=0.03)
    tint, wanted = kept.mean((1, 2)), torch.tensor([1.0, 0.95, 0.85])
    assert torch.allclose(tint / tint[0], wanted, atol=0.02)
    assert torch.allclose(damaged.mean((1, 2)), kept.mean((1, 2)), atol=0.02)
    coloured = learned(clean, noise=(4.0, 4.0))
    assert not coloured.colourless.any() and torch.equal(
        draw_pair(clean[0], coloured, 3)[0], clean[0]
    )


def test_a_cameras_noise_depends_on_the_light(clean: Tensor):
    found = learn_damage(clean, degrade_faces(clean, "camera noise ISO 1500", 3))
    assert found.tones[1] > 1.05 * found.tones[-2]
    assert "in colour" in found.describe()


@pytest.mark.parametrize("kind", ["camera noise ISO 3000", "faded print"])
def test_what_is_drawn_is_measured_alike(clean: Tensor, kind: str):
    first = learn_damage(clean, degrade_faces(clean, DEGRADATIONS[kind], 5))
    again = learn_damage(clean, degrade_faces(clean, first, 7))
    assert again.blurs.median() == pytest.approx(float(first.blurs.median()), rel=0.35)
    assert again.noises.median() == pytest.approx(float(first.noises.median()), rel=0.35)
    assert torch.equal(first.grey.all(), again.grey.all())


def test_drawing_follows_from_the_seed_and_fits_any_size(clean: Tensor):
    damage = learned(clean, blur=(4.0, 4.0), noise=(12.0, 12.0))
    drawn = degrade_faces(clean, damage, 5)
    assert torch.equal(drawn[1:], degrade_faces(clean[1:], damage, 6))
    assert not torch.equal(drawn, degrade_faces(clean, damage, 9))
    large = degrade_faces(resize_square(clean, 200).clamp(0, 1), damage, 5)
    assert large.shape[-1] == 200 and 0 <= float(large.min()) <= float(large.max()) <= 1
    assert damage.sha256 == learned(clean, blur=(4.0, 4.0), noise=(12.0, 12.0)).sha256
    assert damage.sha256 != learned(clean, blur=(4.0, 4.0)).sha256


def test_what_is_no_pair_is_refused(clean: Tensor):
    for first, second in ((clean, clean[:2]), (clean[:0], clean[:0]), (clean[..., :32, :32],) * 2):
        with pytest.raises(InputError):
            learn_damage(first, second)
    with pytest.raises(InputError, match="square"):
        degrade_faces(clean[..., :100, :], learned(clean, noise=(4.0, 4.0)))
