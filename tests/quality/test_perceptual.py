"""Perceptual distances."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.published.rule_weights import rule_tensor
from bfr.errors import (
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    MissingWeightsError,
    WrongArchitectureError,
)
from bfr.quality import perceptual
from bfr.quality.perceptual import (
    LPIPS_NAME,
    PYRAMID_NAME,
    load_distance,
    lpips_available,
    pyramid_distance,
    vgg_path,
)

# VGG-16's convolutions by their place in torchvision's list, with their channels.
VGG = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
       (14, 256, 256), (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512),
       (26, 512, 512), (28, 512, 512))  # fmt: skip


def textured(count: int = 3, size: int = 64) -> Tensor:
    """Images with structure at every scale, B×3×S×S within [0.1, 0.9]."""
    generator = torch.Generator().manual_seed(1)
    image = torch.zeros(count, 3, size, size)
    for side in (4, 8, 16, 32, size):
        noise = torch.rand(count, 3, side, side, generator=generator) - 0.5
        image += F.interpolate(noise, (size, size), mode="bicubic")
    return (0.5 + 0.3 * image).clamp(0.1, 0.9)


def blurred(images: Tensor, sigma: float) -> Tensor:
    side = 2 * int(3 * sigma) + 3
    return gaussian_blur2d(images, (side, side), (sigma, sigma))


def noisy(images: Tensor, deviation: float) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return images + deviation * torch.randn(images.shape, generator=generator)


def mean_gradient(images: Tensor, reference: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    pyramid_distance(images, reference).mean().backward()
    assert images.grad is not None
    return images.grad


# The pyramid ------------------------------------------------------------------------------------


def test_an_image_is_no_way_from_itself():
    images = textured()
    assert torch.equal(pyramid_distance(images, images), torch.zeros(3))
    assert torch.equal(mean_gradient(images, images), torch.zeros_like(images))


def test_it_is_symmetric_and_positive():
    a, b = textured(), noisy(textured(), 0.05)
    assert torch.allclose(pyramid_distance(a, b), pyramid_distance(b, a))
    assert (pyramid_distance(a, b) > 0).all()


def test_damage_ranks():
    clean = textured()
    cases = clean, blurred(clean, 0.6), blurred(clean, 1.2), blurred(clean, 4.0)
    figures = torch.stack([pyramid_distance(case, clean) for case in cases])
    assert (figures.diff(dim=0) > 0).all()
    little, much = (pyramid_distance(noisy(clean, x), clean) for x in (0.02, 0.1))
    assert ((little > 0) & (little < much)).all()


def test_contrast_hides_errors():
    """The same noise is seen less where there is texture: what the division is for."""
    flat, busy = torch.full((1, 3, 64, 64), 0.5), noisy(torch.full((1, 3, 64, 64), 0.5), 0.15)
    generator = torch.Generator().manual_seed(3)
    noise = 0.02 * torch.randn(1, 3, 64, 64, generator=generator)
    assert pyramid_distance(flat + noise, flat) > 1.4 * pyramid_distance(busy + noise, busy)


def test_light_matters_less_than_structure():
    clean = textured()
    brighter, mixed = clean + 0.05, clean + 0.05 * torch.randn(3, 3, 64, 64).sign()
    assert (5 * pyramid_distance(brighter, clean) < pyramid_distance(mixed, clean)).all()


def test_colour_counts():
    clean = textured()
    assert (pyramid_distance(clean.mean(1, keepdim=True).expand_as(clean), clean) > 0.02).all()


def test_mirroring_both_changes_little():
    """Nothing but which pixels the coarser bands keep."""
    a, b = textured(), blurred(textured(), 1.0)
    for axis in (2, 3):
        mirrored = pyramid_distance(a.flip(axis), b.flip(axis))
        assert torch.allclose(mirrored, pyramid_distance(a, b), rtol=0.03)


def test_lost_detail_counts_more_than_misplaced_detail():
    """What keeps a network that trains with it from blurring what it cannot know."""
    clean = textured()
    coarse = blurred(clean, 1.0)
    elsewhere = coarse + (clean - coarse).roll((3, 5), (2, 3))
    assert (elsewhere - clean).square().mean() > 1.5 * (coarse - clean).square().mean()
    lost, misplaced = (
        perceptual.bands_apart(
            *(
                [perceptual.mean_amplitude(band) for band in perceptual.normalized_bands(x)[:2]]
                for x in (image, clean)
            )
        )
        for image in (coarse, elsewhere)
    )
    assert (lost > 3 * misplaced).all()


def test_a_batch_is_its_singles():
    a, b = textured(), blurred(textured(), 1.0)
    singles = torch.cat([pyramid_distance(a[i, None], b[i, None]) for i in range(3)])
    assert torch.allclose(pyramid_distance(a, b), singles, rtol=1e-5)


def test_the_bands_hold_the_whole_image():
    """A pyramid loses nothing: what the way up from the coarser band lacks is in the finer one."""
    x = torch.rand(1, 1, 64, 1, dtype=torch.float64)
    down, up = perceptual.halving(64)
    band = x - up @ (down @ x)
    assert torch.allclose(band + up @ (down @ x), x)
    for size in (5, 16, 33, 64):
        down, up = perceptual.halving(size)
        assert torch.allclose(down.sum(1), torch.ones(down.shape[0]).double())
        assert torch.allclose(up.sum(1), torch.ones(size).double()), "constants are kept"


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (100, 64), (256, 192)])
def test_sizes(size: tuple[int, int]):
    a = torch.rand(1, 3, *size)
    gradient = mean_gradient(a, torch.rand(1, 3, *size))
    assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_gradient_is_right():
    a = textured(1, 16).double().requires_grad_()
    b = noisy(textured(1, 16), 0.1).double()
    assert torch.autograd.gradcheck(lambda x: pyramid_distance(x, b), (a,), fast_mode=True)


def test_gradients_are_finite_everywhere():
    flat = torch.full((2, 3, 32, 32), 0.5)
    for images, reference in ((flat, flat), (flat, textured(2, 32)), (textured(2, 32), flat),
                              (flat * 0, flat * 0 + 1), (flat - 2, flat + 3)):  # fmt: skip
        assert mean_gradient(images, reference).isfinite().all()


def test_following_the_gradient_brings_detail_back():
    clean = textured(1, 32)
    found = blurred(clean, 2.0).requires_grad_()
    before, apart = (
        (found.detach() - clean).square().mean(),
        pyramid_distance(found, clean).detach(),
    )
    optimizer = torch.optim.Adam([found], 0.02)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 100)
        optimizer.zero_grad()
        pyramid_distance(found, clean).sum().backward()
        optimizer.step()
    assert (found.detach() - clean).square().mean() < 0.1 * before
    assert pyramid_distance(found, clean) < 0.1 * apart


def test_half_precision_is_measured_in_full():
    a, b = textured(), blurred(textured(), 1.0)
    expected = pyramid_distance(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pyramid_distance(a, b), expected)
    half = pyramid_distance(a.half(), b.half())
    assert half.dtype == torch.float32
    assert torch.allclose(half, expected, rtol=0.02)
    assert pyramid_distance(a.double(), b.double()).dtype == torch.float64


def test_input_is_not_written_to():
    a, b = textured(), noisy(textured(), 0.1)
    before = a.clone(), b.clone()
    pyramid_distance(a, b)
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])


def test_first_use_in_inference_mode_does_not_spoil_gradients():
    with torch.inference_mode():
        pyramid_distance(torch.rand(1, 3, 44, 44), torch.rand(1, 3, 44, 44))
    assert mean_gradient(torch.rand(1, 3, 44, 44), torch.rand(1, 3, 44, 44)).isfinite().all()


@pytest.mark.parametrize("shapes", [((1, 3, 32, 32), (1, 3, 32, 40)), ((3, 32, 32), (3, 32, 32)),
                                    ((1, 1, 32, 32), (1, 1, 32, 32))])  # fmt: skip
def test_shapes_that_do_not_fit(shapes: tuple):
    with pytest.raises(InputError, match="one shape B×3×H×W"):
        pyramid_distance(*(torch.zeros(shape) for shape in shapes))


def test_images_that_are_too_small():
    with pytest.raises(InputError, match="at least 16"):
        pyramid_distance(torch.zeros(1, 3, 64, 15), torch.zeros(1, 3, 64, 15))


# The choice -------------------------------------------------------------------------------------


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert vgg_path() == tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    vgg_path().parent.mkdir(parents=True)
    return tmp_path


def test_the_choices(torch_home: Path):
    for name in ("pyramid", "auto"):
        distance = load_distance(name)
        assert (distance.name, distance.measure) == (PYRAMID_NAME, pyramid_distance)
    assert not lpips_available()
    with pytest.raises(InputError, match="'vgg'"):
        load_distance("vgg")


def test_lpips_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingPackageError, match="pip install lpips"):
        load_distance("lpips")


def test_lpips_without_its_weights(torch_home: Path):
    pytest.importorskip("lpips")
    with pytest.raises(MissingWeightsError, match="528 MB") as caught:
        load_distance("lpips")
    assert str(vgg_path()) in str(caught.value)
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in str(caught.value)


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch):
    """Random weights of 500 MB take a second, and are replaced all the same."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("unfilled")
def test_lpips_with_other_weights(torch_home: Path):
    pytest.importorskip("lpips")
    torch.save({"features.0.weight": torch.zeros(1)}, vgg_path())
    with pytest.raises(WrongArchitectureError, match="VGG-16"):
        load_distance("lpips")
    vgg_path().write_bytes(b"PK\3\4 half a file")
    with pytest.raises(CorruptWeightsError):
        load_distance("auto")


@pytest.mark.usefixtures("unfilled")
def test_lpips_with_weights_by_rule(torch_home: Path):
    """The whole way with LPIPS's own layers on a VGG-16 of random weights."""
    lpips = pytest.importorskip("lpips")
    state = {}
    for place, wide, out in VGG:
        for name, shape in (("weight", (out, wide, 3, 3)), ("bias", (out,))):
            key = f"features.{place}.{name}"
            state[key] = rule_tensor(key, shape) * (2**0.5 if name == "weight" else 1)
    save_file(state, vgg_path())
    assert lpips_available()
    distance, images = load_distance("auto"), textured(2, 32)
    assert distance.name == LPIPS_NAME
    other = noisy(images, 0.1)
    # The same through the package alone, which takes [0, 1] with ``normalize``.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    own = {name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()}
    network.net.load_state_dict(own)
    with torch.no_grad():
        expected = network(images, other, normalize=True).flatten()
    assert torch.allclose(distance.measure(images, other), expected, atol=1e-6)
    assert torch.equal(distance.measure(images, images), torch.zeros(2))
    images.requires_grad_()
    distance.measure(images, other).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert images.grad.abs().max() > 0
