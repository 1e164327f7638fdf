"""Scratches are found, at any size and whatever the tiles."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from bfr.damage.scratches import draw_scratches
from bfr.errors import InputError, WrongArchitectureError
from bfr.files.weights import write_state_dict
from bfr.restore import scratches
from bfr.restore.scratch_network import ScratchNetwork
from bfr.restore.scratches import (
    ScratchFinder,
    as_finder,
    find_scratches,
    load_scratch_finder,
    scratch_probabilities,
)
from tests.portraits import astronaut


@pytest.fixture(scope="module")
def untrained() -> ScratchFinder:
    """A network whose results differ from pixel to pixel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return as_finder(ScratchNetwork())


class Bright(nn.Module):
    """Whatever is white is a scratch."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images.mean(1, keepdim=True) - 0.5)


class Whitest(nn.Module):
    """Whatever has a white channel is a scratch."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images.amax(1, keepdim=True) - 0.5)


BRIGHT, WHITEST = ScratchFinder(Bright()), ScratchFinder(Whitest())


def test_tiles_give_what_the_whole_gives(untrained: ScratchFinder):
    image = torch.rand(1, 3, 170, 410, generator=torch.Generator().manual_seed(1))
    whole = scratch_probabilities(image, untrained, tile=512)
    steps: list[tuple[int, int]] = []
    tiled = scratch_probabilities(
        image, untrained, tile=64, on_step=lambda done, total, _: steps.append((done, total))
    )
    assert whole.shape == (1, 1, 170, 410) and whole.std() > 1e-3
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)
    assert steps == [(n + 1, 21) for n in range(21)], "3 × 7 tiles"


def test_a_large_photograph_is_looked_at_smaller(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, int]] = []

    class Watched(Bright):
        def forward(self, images: Tensor) -> Tensor:
            seen.append((images.shape[-2], images.shape[-1]))
            return super().forward(images)

    monkeypatch.setattr(scratches, "MOST_SIDE", 96)
    image = torch.zeros(1, 3, 120, 192)
    image[..., 60:66, :] = 1
    mask = find_scratches(image, ScratchFinder(Watched()), grow=0)
    assert seen == [(64, 96)], "60 rows, up to a multiple of the network's step"
    assert mask.shape == (1, 1, 120, 192)
    assert mask[..., 62:64, :].all() and not mask[..., :56, :].any()


def test_small_and_doubtful_ones_are_left_and_others_grow():
    image = torch.zeros(2, 3, 80, 100)
    image[0, :, 25:28, 25:28] = 1
    image[0, :, 40, 30:70] = 0.6  # likely in all of it, and sure in some
    image[0, :, 40, 30:45] = 1
    image[0, :, 60, 30:70] = 0.6  # likely, but hardly sure
    image[0, :, 60, 30:40] = 1
    mask = find_scratches(image, BRIGHT, grow=0, min_size=10)
    assert mask[0].sum() == 40 and not mask[1].any()
    grown = find_scratches(image, BRIGHT, grow=2, min_size=10)
    assert grown[0].sum() == 5 * 44
    assert set(grown.unique().tolist()) == {0.0, 1.0}


def test_what_is_coloured_thick_around_or_at_the_border_belongs_to_the_scene():
    image = torch.zeros(1, 3, 200, 300)
    image[..., 100, 40:260] = 1
    scratch = image[:, :1].clone()
    image[:, :2, 170:172, 40:260] = 1  # yellow
    image[..., 130:150, 60:200] = 1  # thick
    image[..., 5, 20:280] = 1  # the border of a print
    image[..., 20:90, 30] = image[..., 20:90, 130] = image[..., 20, 30:131] = 1  # a frame
    assert torch.equal(find_scratches(image, WHITEST, grow=0), scratch)


def test_the_more_sensitive_the_more_is_found():
    image = torch.zeros(1, 3, 100, 80)
    for row, light in enumerate((0.45, 0.55, 0.62, 0.71, 0.8)):
        image[..., 15 + 15 * row, 20:60] = light
    rows = [
        int(find_scratches(image, BRIGHT, sensitivity=share, grow=0).amax(3).sum())
        for share in (0, 0.3, 0.6, 1)
    ]
    assert rows == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ({"sensitivity": 1.5}, "1.5"),
        ({"min_size": -1}, "-1"),
        ({"min_size": float("nan")}, "nan"),
        ({"grow": 100}, "100"),
        ({"finder": nn.Identity()}, "Identity"),
        ({"images": torch.rand(1, 1, 8, 8)}, "1×1×8×8"),
    ],
)
def test_bad_input_is_named(wrong: dict[str, Any], shown: str):
    given = {"images": torch.rand(1, 3, 8, 8), "finder": BRIGHT} | wrong
    with pytest.raises(InputError, match=shown):
        find_scratches(**cast(Any, given))


def test_another_network_is_named(tmp_path):
    file = tmp_path / "other.safetensors"
    write_state_dict(file, {"weight": torch.zeros(3)}, {"architecture": "NAFNet"})
    with pytest.raises(WrongArchitectureError, match="NAFNet"):
        load_scratch_finder(file)


def test_the_embedded_network_finds_drawn_scratches_and_nothing_else():
    image, _ = astronaut()
    scratched = draw_scratches(image, 3)
    finder = load_scratch_finder()
    drawn = (scratched - image).abs().amax(1, keepdim=True) > 0.1
    found = find_scratches(scratched, finder, grow=0) > 0
    near = nn.functional.max_pool2d(drawn.float(), 5, 1, 2) > 0
    assert (found & near).sum() / found.sum() > 0.8
    assert (found & drawn).sum() / drawn.sum() > 0.3
    assert find_scratches(image, finder, grow=0).mean() < 0.001
