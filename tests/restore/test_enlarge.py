"""Enlarging: what auto chooses, resampling, upscalers in tiles, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bfr.errors import InputError, OutOfMemoryError, WrongArchitectureError
from bfr.quality.metrics import psnr
from bfr.restore.enlarge import auto_factor, check_room, enlarge, resample
from bfr.restore.load import EMBEDDED_RESTORER
from bfr.restore.tiles import run_tiled, tiled_rows
from bfr.restore.upscale import load_upscaler
from tests.portraits import astronaut, face_at

CPU = torch.device("cpu")


class Nearest:
    """An upscaler that repeats pixels, and writes into its input as some networks do."""

    input_channels = output_channels = 3
    device, dtype = CPU, torch.float32

    def __init__(self, scale: int = 2, channels: int = 3, most: int = 10**9):
        self.scale, self.input_channels, self.most = scale, channels, most
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, image: Tensor, /) -> Tensor:
        if image.shape[-1] * image.shape[-2] > self.most:
            raise RuntimeError("out of memory")
        self.sizes.append(tuple(image.shape[-2:]))
        large = F.interpolate(image, scale_factor=self.scale, mode="nearest")
        image.zero_()
        return large


def chosen(*eyes: float, size: int = 256, most_pixels: int = 10**9) -> int:
    """What auto chooses for faces whose eyes are so many pixels apart."""
    faces = [face_at(150, 150, distance) for distance in eyes]
    return auto_factor(faces, size, (600, 800), most_pixels)


def test_auto_gives_faces_the_restorers_size():
    factors = [chosen(distance) for distance in (6, 12, 25, 50, 100, 400)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == 4 and factors[-1] == 1 and 2 in factors
    assert chosen(50, size=512) > chosen(50, size=256)


def test_auto_goes_by_the_faces_in_the_middle():
    assert chosen(5, 25, 25, 25, 300) == chosen(25)


def test_auto_does_nothing_without_a_face():
    assert chosen() == 1


def test_auto_stays_within_a_size():
    assert chosen(5, most_pixels=16 * 600 * 800) == 4
    assert chosen(5, most_pixels=16 * 600 * 800 - 1) == 2
    assert chosen(5, most_pixels=1) == 1


@pytest.mark.parametrize("factor", [2, 4])
def test_resampling_is_closer_to_the_photograph_than_bicubic(factor: int):
    image = astronaut()[0][..., :64, :64]
    small = F.avg_pool2d(image, factor)
    bicubic = F.interpolate(small, scale_factor=factor, mode="bicubic").clamp(0, 1)
    assert psnr(resample(small, factor), image) > psnr(bicubic, image) + 0.2


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_resampling_keeps_places_and_flat_areas(factor: int):
    ramp = torch.linspace(0.2, 0.8, 40).expand(1, 3, 30, 40)
    large = resample(ramp, factor)
    assert large.shape == (1, 3, 30 * factor, 40 * factor)
    inside = F.avg_pool2d(large, factor)[..., 5:-5, 5:-5]
    torch.testing.assert_close(inside, ramp[..., 5:-5, 5:-5], rtol=0, atol=1e-4)
    flat = torch.full((1, 3, 8, 9), 0.3)
    torch.testing.assert_close(enlarge(flat, 2), torch.full((1, 3, 16, 18), 0.3))


def test_strips_leave_no_seam(monkeypatch: pytest.MonkeyPatch):
    image = torch.rand(2, 3, 41, 23, generator=torch.Generator().manual_seed(0))
    whole = resample(image, 3)
    monkeypatch.setattr("bfr.restore.enlarge._STRIP", 10)
    torch.testing.assert_close(resample(image, 3), whole, atol=1e-5, rtol=0)


def test_a_factor_of_one_changes_nothing():
    images = torch.rand(1, 3, 8, 9)
    assert torch.equal(enlarge(images, 1, Nearest(4)), images)


@pytest.mark.parametrize(("scale", "factor", "passes"), [(2, 4, 2), (4, 2, 1), (3, 4, 1)])
def test_an_upscaler_of_any_scale_serves_any_factor(scale: int, factor: int, passes: int):
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    before, upscaler = images.clone(), Nearest(scale)
    large = enlarge(images, factor, upscaler)
    assert large.shape == (2, 3, 20 * factor, 30 * factor)
    assert len(upscaler.sizes) == 2 * passes
    assert torch.equal(images, before), "the input was written to"
    assert large.min() >= 0 and large.max() <= 1


def test_tiles_leave_no_seam():
    images = torch.rand(1, 3, 150, 210, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(images, scale_factor=2, mode="nearest")
    steps: list[tuple[int, int]] = []
    upscaler = Nearest()
    tiled = run_tiled(images, upscaler, 96, lambda *step: steps.append(step[:2]))
    torch.testing.assert_close(tiled, whole)
    assert set(upscaler.sizes) == {(96, 96)}
    assert steps[-1] == (len(upscaler.sizes),) * 2


def test_tiles_become_smaller_when_memory_runs_out():
    images = torch.rand(1, 3, 150, 210)
    upscaler = Nearest(most=128 * 128)
    torch.testing.assert_close(
        run_tiled(images, upscaler), F.interpolate(images, scale_factor=2, mode="nearest")
    )
    assert max(upscaler.sizes) == (128, 128)
    with pytest.raises(OutOfMemoryError, match="64"):
        run_tiled(images, Nearest(most=1000))


class Forgetful(Nearest):
    """An upscaler that has less memory after some tiles."""

    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def __call__(self, image: Tensor, /) -> Tensor:
        if len(self.sizes) >= self.after:
            self.most = 70 * 70
        return super().__call__(image)


def test_rows_that_are_done_stay_when_memory_runs_out_later():
    images = torch.rand(2, 3, 300, 210, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(images, scale_factor=2, mode="nearest")
    steps: list[tuple[int, int]] = []
    upscaler, tops = Forgetful(after=5), [0, 0]
    tell = lambda *step: steps.append(step[:2])  # noqa: E731
    for index, top, rows in tiled_rows(images, upscaler, 128, tell):
        assert top == tops[index], "one after the other"
        tops[index] = top + rows.shape[-2]
        torch.testing.assert_close(rows, whole[index, :, top : tops[index]])
    assert tops == [600, 600]
    assert set(upscaler.sizes) == {(128, 128), (64, 64)}
    assert steps[-1][0] == steps[-1][1]


def test_bands_may_overlap_by_more_than_the_smaller_tiles_that_follow():
    images = torch.rand(1, 3, 150, 128, generator=torch.Generator().manual_seed(0))
    upscaler = Forgetful(after=1)
    whole = F.interpolate(images, scale_factor=2, mode="nearest")
    torch.testing.assert_close(run_tiled(images, upscaler, 128), whole)
    assert set(upscaler.sizes) == {(128, 128), (64, 64)}


def test_what_does_not_fit_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(OutOfMemoryError, match="8000×4000"):
        check_room((1, 3, 1000, 2000), 4, CPU, free=10**9)
    check_room((1, 3, 1000, 2000), 4, CPU, free=10**10)
    check_room((1, 3, 10**5, 10**5), 1, CPU, free=0)
    monkeypatch.setattr("bfr.restore.enlarge.free_bytes", lambda device: 1000)
    upscaler = Nearest()
    with pytest.raises(OutOfMemoryError, match="32×32"):
        enlarge(torch.rand(1, 3, 16, 16), 2, upscaler)
    assert not upscaler.sizes


def test_bad_input_is_named():
    images = torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match="0"):
        enlarge(images, 0)
    with pytest.raises(WrongArchitectureError, match="1"):
        enlarge(images, 2, Nearest(1))
    with pytest.raises(WrongArchitectureError, match="4"):
        enlarge(images, 2, Nearest(2, channels=4))
    wrong = Nearest(2)
    wrong.__class__ = type("Wrong", (Nearest,), {"__call__": lambda self, image: image})
    with pytest.raises(WrongArchitectureError, match="8"):
        enlarge(images, 2, wrong)


def test_an_upscaler_is_loaded_from_a_file_and_a_restorer_refused(tmp_path: Path):
    from safetensors.torch import save_file
    from spandrel.architectures.Compact import Compact

    network = Compact(num_feat=8, num_conv=2, upscale=2)
    save_file(network.state_dict(), tmp_path / "x2.safetensors")
    upscaler = load_upscaler(tmp_path / "x2.safetensors")
    assert enlarge(torch.rand(1, 3, 20, 30), 4, upscaler).shape == (1, 3, 80, 120)
    with pytest.raises(WrongArchitectureError, match="1"):
        load_upscaler(EMBEDDED_RESTORER)
    save_file({"some.weight": torch.zeros(3)}, tmp_path / "no.safetensors")
    with pytest.raises(WrongArchitectureError, match="some"):
        load_upscaler(tmp_path / "no.safetensors")
