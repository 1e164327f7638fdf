"""Damage: reproducible, alike at every size, and worse the stronger it is set."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from bfr.damage.degrade import DEGRADATIONS, NO_DAMAGE, Degradation, degrade_faces
from bfr.errors import InputError
from bfr.quality.likeness import psnr

CLEAN = Degradation((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (100.0, 100.0), 0.0)


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """Coloured tiles with hard edges, 2×3×128×128."""
    tiles = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return F.interpolate(tiles, (128, 128), mode="nearest")


@pytest.mark.parametrize("preset", list(DEGRADATIONS))
def test_presets_damage_reproducibly(faces, preset):
    before = faces.clone()
    damaged = degrade_faces(faces, preset, seed=3)
    assert damaged.shape == faces.shape and damaged.dtype == faces.dtype
    assert damaged.min() >= 0 and damaged.max() <= 1
    assert torch.equal(damaged, degrade_faces(faces, preset, seed=3))
    assert not torch.equal(damaged, degrade_faces(faces, preset, seed=4))
    assert (psnr(damaged, faces) < 35).all()
    assert torch.equal(faces, before)


@pytest.mark.parametrize(
    ("preset", "mean", "deviation"),
    [
        ("gfpgan", 0.49671575591839573, 0.22857558432822153),
        ("low resolution", 0.49678981051916987, 0.2350652869908962),
        ("noise", 0.4966679876536979, 0.2455896011393923),
        ("compression", 0.4969334333862608, 0.24883588092134856),
        ("faded print", 0.4096602285433922, 0.08719629462673106),
    ],
)
def test_a_seed_gives_the_same_damage_in_every_version(preset, mean, deviation):
    tiles = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    faces = F.interpolate(tiles, (128, 128), mode="bicubic").clamp(0, 1)
    damaged = degrade_faces(faces, preset, 11).double()
    # JPEG rounds a coefficient the other way on another processor: 1.5e-6 at most.
    # Another seed differs by more than 1e-4 in one of the two.
    assert damaged.mean().item() == pytest.approx(mean, abs=2e-5)
    assert damaged.std().item() == pytest.approx(deviation, abs=2e-5)


def test_the_kinds_look_as_they_are_called(faces):
    weak, strong = (degrade_faces(faces, f"camera noise ISO {iso}", 1) for iso in (1500, 3000))
    assert (psnr(strong, faces) + 0.5 < psnr(weak, faces)).all()
    newspaper, print_ = (degrade_faces(faces, kind, 1) for kind in ("newspaper", "faded print"))
    assert (newspaper[:, 0] - newspaper[:, 2]).std() < 0.1  # of one ink
    assert newspaper.std() > print_.std()  # in dots


def test_a_halftone_is_as_coarse_at_every_size():
    grey = torch.full((1, 3, 256, 256), 0.6)
    screen = replace(NO_DAMAGE, screen=(8.0, 8.0))
    small = degrade_faces(grey, screen)
    large = degrade_faces(F.interpolate(grey, (512, 512)), screen)
    shrunk = F.interpolate(large, (256, 256), mode="area")
    assert psnr(small, shrunk) > psnr(small, grey) + 6


def test_batch_equals_singles(faces):
    together = degrade_faces(faces, "gfpgan", seed=5)
    assert torch.equal(together[1:], degrade_faces(faces[1:], "gfpgan", seed=6))


def test_no_damage_is_the_picture(faces):
    assert torch.equal(degrade_faces(faces, NO_DAMAGE), faces)
    grey = faces[:, :1].expand(-1, 3, -1, -1)  # JPEG halves the resolution of colour
    faces = F.interpolate(grey, (512, 512), mode="nearest")
    assert (psnr(degrade_faces(faces, CLEAN), faces) > 40).all()


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        (
            Degradation((1, 1), (1, 1), (0, 0), (99, 99)),
            Degradation((8, 8), (1, 1), (0, 0), (99, 99)),
        ),
        (
            Degradation((0, 0), (2, 2), (0, 0), (99, 99)),
            Degradation((0, 0), (16, 16), (0, 0), (99, 99)),
        ),
        (
            Degradation((0, 0), (1, 1), (5, 5), (99, 99)),
            Degradation((0, 0), (1, 1), (30, 30), (99, 99)),
        ),
        (
            Degradation((0, 0), (1, 1), (0, 0), (90, 90)),
            Degradation((0, 0), (1, 1), (0, 0), (5, 5)),
        ),
    ],
    ids=["blur", "downscale", "noise", "jpeg"],
)
def test_more_is_worse(faces, weak, strong):
    faces = F.interpolate(faces, (512, 512), mode="nearest")
    assert (
        psnr(degrade_faces(faces, strong), faces) + 1 < psnr(degrade_faces(faces, weak), faces)
    ).all()


def test_grey_is_grey(faces):
    damaged = degrade_faces(faces, Degradation(grey=1.0, grain=1.0), seed=1)
    assert (damaged - damaged.mean(1, keepdim=True)).abs().max() < 0.02


def test_blur_keeps_the_mean(faces):
    blur = Degradation((6.0, 6.0), (1.0, 1.0), (0.0, 0.0), (100.0, 100.0), 0.0)
    faces = F.interpolate(faces, (512, 512), mode="bicubic").clamp(0, 1)
    shift = degrade_faces(faces, blur).mean((2, 3)) - faces.mean((2, 3))
    assert shift.abs().max() < 0.01


def test_bad_input_is_named(faces):
    with pytest.raises(InputError, match="faded print"):
        degrade_faces(faces, "coffee stain")
    with pytest.raises(InputError):
        degrade_faces(faces[0], "gfpgan")
