"""Figures with known answers, and the order in which they put damage."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.faces.retinaface import Detector, load_detector
from bfr.image.lowpass import lowpass
from bfr.quality.face_batch import FaceBatch
from bfr.quality.likeness import (
    consistency_psnr,
    find_landmarks,
    landmarks_apart,
    likeness_factor,
    psnr,
    ssim,
)
from bfr.quality.metrics import METRICS, caption
from bfr.quality.texture import grain, sharpness
from tests.portraits import astronaut, only

DETECTOR = Detector(torch.nn.Identity())


@pytest.fixture(scope="module")
def face() -> Tensor:
    image, found = astronaut()
    return align_faces(image, only(found, image), 128)[0]


def blurred(images: Tensor, sigma: float) -> Tensor:
    from kornia.filters import gaussian_blur2d

    return gaussian_blur2d(images, 25, (sigma, sigma))


def noised(images: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images + noise * sigma / 255


def test_psnr_of_a_known_error():
    images = torch.full((2, 3, 8, 8), 0.5)
    shifted = images + torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(psnr(shifted, images).float(), torch.tensor([20.0, 40.0]))
    assert torch.isinf(psnr(images, images)).all()


@pytest.mark.parametrize("figure", [psnr, ssim, lambda a, b: consistency_psnr(a, b, 4)])
def test_other_shapes_are_refused(figure):
    with pytest.raises(InputError, match="shape"):
        figure(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8))


def test_ssim_is_scikit_images(face: Tensor):
    from skimage.metrics import structural_similarity

    for damaged in (blurred(face, 2), noised(face, 20), face.flip(3), 1 - face):
        expected = structural_similarity(
            *(images[0].double().numpy() for images in (damaged, face)),
            gaussian_weights=True,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
        )
        assert ssim(damaged, face).item() == pytest.approx(expected, abs=1e-6)
        assert ssim(face, damaged).item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_equal_and_of_flat_images(face: Tensor):
    assert ssim(face, face).item() == pytest.approx(1, abs=1e-6)
    dark, light = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.8)
    assert ssim(dark, light).item() == pytest.approx((0.32 + 1e-4) / (0.68 + 1e-4))
    assert ssim(torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16)).shape == (0,)
    with pytest.raises(InputError, match="got 16×10"):
        ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


def test_the_factor_of_likeness_divides_the_side():
    assert [likeness_factor(size) for size in (512, 256, 128, 300, 97, 16)] == [16, 8, 4, 6, 1, 1]


def test_consistency_counts_low_frequencies_only(face: Tensor):
    """A change of light counts in full; detail that φ takes away does not count."""
    assert consistency_psnr(face + 0.1, face, 8).item() == pytest.approx(20, abs=1e-3)
    checks = torch.ones(1, 1, 128, 128)
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = -1
    assert psnr(face + 0.1 * checks, face).item() == pytest.approx(20, abs=1e-3)
    assert consistency_psnr(face + 0.1 * checks, face, 8) > 60
    replaced = blurred(face, 3) + lowpass(face - blurred(face, 3), 8)
    assert consistency_psnr(replaced, face, 8) > psnr(replaced, face) + 10
    assert torch.isinf(consistency_psnr(face, face, 8)).all()


def test_consistency_falls_with_a_smaller_factor(face: Tensor):
    soft = blurred(face, 2)
    figures = [consistency_psnr(soft, face, factor).item() for factor in (1, 4, 16)]
    assert figures == sorted(figures)
    assert figures[0] == pytest.approx(psnr(soft, face).item(), abs=1e-6)


def test_sharpness_falls_with_blur_and_rises_with_sharpening(face: Tensor):
    stages = [face * 1.5 - 0.5 * blurred(face, 1), face]
    stages += [blurred(face, sigma) for sigma in (0.5, 1.0, 2.0, 4.0)]
    figures = sharpness(torch.cat(stages))
    assert (figures.diff() < -0.05 * figures[1:]).all()


def test_grain_is_no_sharpness(face: Tensor):
    """Grain on a soft face never makes up for the detail that the blur took."""
    soft = blurred(face, 2)
    grainy = torch.cat([noised(soft, sigma) for sigma in (2, 5, 10, 20, 40)])
    assert (sharpness(grainy) <= sharpness(soft)).all()
    gradient = grainy.diff(dim=-1).abs().mean((1, 2, 3))
    assert gradient[-1] > 2 * face.diff(dim=-1).abs().mean(), "which plain gradients are fooled by"
    assert sharpness(noised(torch.full((1, 3, 64, 64), 0.5), 20)) < 0.02 * sharpness(face)


def test_sharpness_of_stripes():
    """Of a wave along x the coherence is 1, and the gradient is known."""
    x = torch.arange(256.0)
    wave = torch.sin(2 * math.pi * x / 4).expand(1, 3, 66, 256)
    kept = 1 - math.exp(-((2 * math.pi / 4 * 2) ** 2) / 2)
    wanted = 255 * 0.1 * kept * math.sqrt(0.5)  # the central difference of this wave has its height
    assert sharpness(0.5 + 0.1 * wave).item() == pytest.approx(wanted, rel=0.02)
    turned = 0.5 + 0.1 * wave.mT
    assert sharpness(turned).item() == pytest.approx(wanted, rel=0.02)


def test_figures_without_reference_do_not_change_with_light_or_mirror(face: Tensor):
    for figure in (sharpness, grain):
        torch.testing.assert_close(figure(face + 0.1), figure(face), rtol=1e-4, atol=0)
        assert figure(face * 0.5).item() == pytest.approx(0.5 * figure(face).item(), rel=1e-4)
        inner = face[..., 1:-1, 1:-1][..., :122, :122]  # whole patches, mirrored on themselves
        torch.testing.assert_close(figure(inner.flip(3)), figure(inner), rtol=1e-3, atol=0)


def test_grain_finds_the_noise(face: Tensor):
    flat = torch.full((1, 3, 256, 256), 0.5)
    luma = math.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    for sigma in (2.0, 8.0, 20.0):
        found = grain(noised(flat, sigma)).item()
        assert found == pytest.approx(luma * sigma, rel=0.03)
    smooth = blurred(face, 2)
    assert grain(smooth) < 0.1
    assert grain(noised(smooth, 8)).item() == pytest.approx(luma * 8, rel=0.05)
    assert grain(flat) == 0 and sharpness(flat) < 1e-9


def test_a_batch_equals_singles_in_any_dtype(face: Tensor):
    faces = torch.cat([face, blurred(face, 1), noised(face, 10)])
    before = faces.clone()
    comparing = (lambda x: consistency_psnr(x, x.flip(3), 8), lambda x: ssim(x, x.flip(3)))
    for figure in (sharpness, grain, *comparing):
        together = figure(faces)
        assert together.dtype == torch.float64 and together.shape == (3,)
        for i in range(3):
            assert figure(faces[i : i + 1]).item() == pytest.approx(together[i].item(), rel=1e-9)
        torch.testing.assert_close(figure(faces.half()), together, rtol=0.03, atol=0.03)
        with torch.inference_mode():
            torch.testing.assert_close(figure(faces), together)
    assert torch.equal(faces, before)


def test_images_too_small_or_none_are_refused():
    for figure in (sharpness, grain):
        with pytest.raises(InputError, match="16 pixels"):
            figure(torch.zeros(1, 3, 8, 64))
        with pytest.raises(InputError, match="B×3×H×W"):
            figure(torch.zeros(3, 64, 64))
        assert figure(torch.zeros(0, 3, 64, 64)).shape == (0,)


@torch.inference_mode()
def test_landmarks_of_a_shifted_face_and_of_no_face(face: Tensor):
    detector = load_detector()
    large = F.interpolate(face, (256, 256), mode="bicubic").clamp(0, 1)
    shifted = large.roll(12, dims=3)
    flat = torch.full_like(large, 0.5)
    images = find_landmarks(torch.cat([large, shifted, flat, large]), detector)
    reference = images[:1].repeat(4, 1, 1)
    reference[3] = math.nan
    found = landmarks_apart(images, reference)
    assert found.dtype == torch.float64 and found[0] == 0
    eyes = 256 * (318.9 - 192.98) / 512
    assert found[1].item() == pytest.approx(12 / eyes, abs=0.04)
    assert found[2:].isnan().all()
    assert find_landmarks(large[:0], detector).shape == (0, 5, 2)


def test_crops_for_landmarks_are_square():
    with pytest.raises(InputError, match="got 64×32"):
        find_landmarks(torch.zeros(1, 3, 64, 32), DETECTOR)


def test_caption():
    values = {"likeness": 38.21, "sharpness": 2.409}
    assert caption(values) == "like\u00a038.2\u00a0dB  sharp\u00a02.41"
    assert (
        caption({"likeness": math.inf, "landmarks": math.nan}) == "like\u00a0exactly  no\u00a0face"
    )
    values = {"landmarks": 3.14, "grain": 7.0, "niqe": 4.0, "sharpness": None}
    assert caption(values) == "moved\u00a03.14\u00a0%  grain\u00a07.00  niqe\u00a04.00"
    assert caption({}) == caption({"niqe": math.nan}) == ""


def test_clipped_counts_only_what_was_not_so_before(face: Tensor):
    before = face.clamp(0.1, 0.9)
    now = before.clone()
    now[..., :32] = 1
    both = FaceBatch(now), FaceBatch(before)
    assert METRICS["clipped"].measure(*both).item() == pytest.approx(25)
    assert METRICS["clipped"].measure(both[0], both[0]).item() == 0


def test_every_metric_says_which_way_is_better():
    assert all(metric.sign in (-1, 1) and metric.key == key for key, metric in METRICS.items())
