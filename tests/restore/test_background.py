"""The picture around the faces: what is cleaned, how tiles join, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from spandrel.architectures.NAFNet import NAFNet
from torch import Tensor

from bfr.errors import InputError, WrongArchitectureError
from bfr.files.weights import read_state_dict, write_state_dict
from bfr.quality.likeness import psnr
from bfr.restore import background as module
from bfr.restore.background import (
    EMBEDDED_BACKGROUND,
    REACH,
    BackgroundRestorer,
    check_cleaner,
    load_background,
    load_cleaner,
    restore_background,
)
from bfr.restore.load import EMBEDDED_RESTORER, load_restorer
from bfr.restore.settings import VideoSettings, check_settings
from bfr.restore.tiles import run_tiled
from bfr.restore.upscale import load_upscaler
from tests.portraits import astronaut

CPU = torch.device("cpu")


class Darker:
    """A 1× network that halves everything; of a scale and channels that one can name."""

    device, dtype = CPU, torch.float32

    def __init__(self, scale: int = 1, channels: int = 3):
        self.scale, self.input_channels, self.output_channels = scale, channels, channels

    def __call__(self, image: Tensor, /) -> Tensor:
        return image / 2


@pytest.fixture(scope="module")
def cleaner() -> BackgroundRestorer:
    return load_background(precision="float32")


def noisy(image: Tensor, level: float = 15 / 255) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(3))
    return (image + level * noise).clamp(0, 1)


def test_strength_0_is_the_photograph_itself_and_loads_nothing(monkeypatch):
    monkeypatch.setattr(module, "load_background", lambda: pytest.fail("loaded"))
    image = torch.rand(1, 3, 20, 30)
    assert restore_background(image, 0.0) is image


def test_strength_blends():
    image = torch.rand(2, 3, 40, 50)
    full = restore_background(image, 1.0, Darker())
    torch.testing.assert_close(full, image / 2)
    torch.testing.assert_close(restore_background(image, 0.5, Darker()), 0.75 * image)


@pytest.mark.parametrize(("level", "least"), [(8 / 255, 1), (20 / 255, 4)])
def test_noise_of_a_photograph_that_training_has_not_seen_is_reduced(cleaner, level, least):
    image = astronaut()[0][..., :160, 100:292]
    damaged = noisy(image, level)
    gain = psnr(restore_background(damaged, 1.0, cleaner), image) - psnr(damaged, image)
    assert gain.item() > least


def test_a_clean_photograph_is_left_alone(cleaner):
    image = astronaut()[0][..., :160, 100:292]
    assert psnr(restore_background(image, 1.0, cleaner), image).item() > 34


def test_tiles_join_as_if_there_were_none(cleaner):
    """Of a size that is no multiple of what the network folds, too."""
    image = noisy(astronaut()[0][..., :210, :323])
    with torch.no_grad():
        whole = cleaner(image).clamp(0, 1)
    tiled = run_tiled(image, cleaner, tile=232, seams=cleaner.seams)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)


def test_in_place_gives_the_same(cleaner, monkeypatch: pytest.MonkeyPatch):
    """Each band is made of pixels that no band before it has changed."""
    monkeypatch.setattr(module, "TILE", 176)
    images = noisy(astronaut()[0][..., :240, :180]).repeat(2, 1, 1, 1)
    images[1] = images[1].flip(-1)
    cleaned = restore_background(images, 0.7, cleaner)
    assert (cleaned - images).abs().amax() > 0.02
    own = images.clone()
    assert restore_background(own, 0.7, cleaner, in_place=True) is own
    assert torch.equal(own, cleaned)


def test_nothing_farther_than_its_reach_counts(cleaner):
    image = torch.rand(1, 3, 16, 2 * REACH + 48, generator=torch.Generator().manual_seed(1))
    changed = image.clone()
    changed[..., -16:] = 0
    with torch.no_grad():
        before, after = cleaner(image), cleaner(changed)
    near = -16 - REACH
    torch.testing.assert_close(after[..., :near], before[..., :near], rtol=0, atol=1e-5)
    assert not torch.equal(after[..., -16:], before[..., -16:])


def test_a_batch_gives_what_single_photographs_give(cleaner):
    images = noisy(torch.stack([astronaut()[0][0, :, y : y + 64, :64] for y in (0, 64)]))
    batch = restore_background(images, 1.0, cleaner)
    single = torch.cat([restore_background(image[None], 1.0, cleaner) for image in images])
    torch.testing.assert_close(batch, single, rtol=0, atol=1e-5)


def test_a_grey_photograph_stays_grey(cleaner):
    grey = noisy(torch.full((1, 1, 48, 48), 0.4)).expand(1, 3, -1, -1)
    clean = restore_background(grey, 0.7, cleaner)
    assert torch.equal(clean, clean[:, :1].expand(-1, 3, -1, -1))
    assert not torch.equal(clean, grey)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (9, 8)])
def test_any_size_goes_through(cleaner, size):
    assert restore_background(torch.rand(1, 3, *size), 1.0, cleaner).shape == (1, 3, *size)


def test_the_file_is_one_that_load_upscale_model_takes():
    """A plain NAFNet of 1× and at most 4 MB, whose channel weights see no farther than a pixel."""
    assert EMBEDDED_BACKGROUND.stat().st_size <= 4_000_000
    descriptor = ModelLoader().load_from_file(EMBEDDED_BACKGROUND)
    assert isinstance(descriptor, ImageModelDescriptor)
    assert descriptor.architecture.name == "NAFNet" and descriptor.scale == 1
    state, _ = read_state_dict(EMBEDDED_BACKGROUND)
    means = [tensor for name, tensor in state.items() if name.endswith("sca.1.weight")]
    assert means and not any(tensor.any() for tensor in means)


@pytest.mark.parametrize("scale", [0, 2, 3, 4])
def test_a_network_of_another_scale_is_refused_with_a_remedy(scale):
    with pytest.raises(WrongArchitectureError, match=rf"got one of {scale}×.*embedded"):
        restore_background(torch.rand(1, 3, 8, 8), 1.0, Darker(scale))


def test_other_networks_are_refused():
    with pytest.raises(WrongArchitectureError, match="3 channels"):
        check_cleaner(Darker(channels=1))
    with pytest.raises(WrongArchitectureError, match="face restorer"):
        check_cleaner(load_restorer())
    with pytest.raises(InputError, match="background"):
        restore_background(torch.rand(1, 3, 8, 8), 1.5)


def test_a_file_of_another_scale_is_refused(tmp_path: Path):
    load_cleaner(EMBEDDED_RESTORER)  # 1×, and whoever chooses it means it
    with pytest.raises(WrongArchitectureError, match="by 2 or more"):
        load_upscaler(EMBEDDED_BACKGROUND)
    small = NAFNet(width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    write_state_dict(tmp_path / "own.safetensors", small.state_dict(), {})
    own = load_cleaner(tmp_path / "own.safetensors")
    assert restore_background(torch.rand(1, 3, 20, 20), 1.0, own).shape == (1, 3, 20, 20)


def test_a_clip_has_no_background():
    with pytest.raises(InputError, match="clip"):
        check_settings(VideoSettings(background=0.5), None)
