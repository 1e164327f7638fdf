"""NIQE: fits with known answers, a plain transcription of the method, and the order of damage."""

from __future__ import annotations

import math
from math import gamma
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from bfr.damage.degrade import Degradation, degrade_faces
from bfr.errors import InputError, MissingWeightsError, WrongArchitectureError
from bfr.image.lowpass import resize_weights
from bfr.quality.niqe import Statistics, fit_aggd, load_statistics, mscn, niqe, patch_features
from tests.portraits import samples


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Two clean 256 px faces."""
    return samples(256)


def draws(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_fit_finds_gaussian_and_laplacian():
    normal = 3 * draws(1, 200_000)
    shape, left, right = fit_aggd(normal)
    assert shape.item() == pytest.approx(2, abs=0.03)
    assert left.item() == pytest.approx(3 * math.sqrt(2), rel=0.02)
    uniform = torch.special.ndtr(draws(200_000)) - 0.5
    laplacian = -0.7 * uniform.sign() * torch.log1p(-2 * uniform.abs())
    shape, left, right = fit_aggd(laplacian)
    assert shape.item() == pytest.approx(1, abs=0.02)
    assert left.item() == pytest.approx(0.7, rel=0.03) == right.item()


def test_fit_finds_unequal_sides():
    """Half a Gaussian of 1 to the left and one of 3 to the right, as much mass as their widths."""
    left, right = -draws(100_000).abs(), 3 * draws(300_000).abs()
    shape, scale_left, scale_right = fit_aggd(torch.cat([left, right]))
    assert shape.item() == pytest.approx(2, abs=0.05)
    assert scale_left.item() == pytest.approx(math.sqrt(2), rel=0.03)
    assert scale_right.item() == pytest.approx(3 * math.sqrt(2), rel=0.03)


def test_fit_by_hand():
    """E|x|² / E x² is ½, a Laplacian's; zeros count half to each side: σ² is ½ on both."""
    for value in fit_aggd(torch.tensor([-1.0, 0.0, 0.0, 1.0], dtype=torch.float64)):
        assert value.item() in (pytest.approx(1, abs=1e-6), pytest.approx(0.5, abs=1e-6))
    for nothing in (torch.zeros(5), torch.ones(5)):
        assert all(value.isnan() for value in fit_aggd(nothing.double()))


def test_mscn_of_a_constant_and_of_a_dot():
    for value in (0.0, 77.0, 255.0):
        assert mscn(torch.full((1, 1, 20, 20), value, dtype=torch.float64)).abs().max() == 0
    dot = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    dot[..., 10, 10] = 100
    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    share = (window[3] / window.sum()) ** 2
    deviation = 100 * math.sqrt(share - share**2)
    assert mscn(dot)[0, 0, 10, 10].item() == pytest.approx((100 - 100 * share) / (deviation + 1))
    assert mscn(dot)[0, 0, 10, 14].item() == 0, "the window ends here"
    torch.testing.assert_close(mscn(dot + 50), mscn(dot), rtol=1e-6, atol=1e-9)


def transcribed(luma: np.ndarray, patch: int) -> np.ndarray:
    """P×36 features, written out from the paper: a double loop, the nearest shape of the table."""
    table = np.arange(0.2, 10, 0.001)
    ratios = [gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) for a in table]
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(line, line) / line.sum() ** 2

    def fitted(x: np.ndarray) -> tuple[float, float, float]:
        left, right = np.sqrt(np.mean(x[x < 0] ** 2)), np.sqrt(np.mean(x[x > 0] ** 2))
        skew, ratio = left / right, np.mean(np.abs(x)) ** 2 / np.mean(x**2)
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
        shape = table[np.argmin(np.abs(np.array(ratios) - ratio))]
        scale = math.sqrt(gamma(1 / shape) / gamma(3 / shape))
        return shape, left * scale, right * scale

    def averaged(x: np.ndarray) -> np.ndarray:
        around = np.lib.stride_tricks.sliding_window_view(np.pad(x, 3, "edge"), (7, 7))
        return (around * window).sum((2, 3))

    found = []
    for side in (patch, patch // 2):
        mean = averaged(luma)
        deviation = np.sqrt(np.abs(averaged(luma**2) - mean**2))
        normal = (luma - mean) / (deviation + 1)
        rows = []
        for y in range(0, luma.shape[0], side):
            for x in range(0, luma.shape[1], side):
                block = normal[y : y + side, x : x + side]
                shape, left, right = fitted(block)
                row = [shape, (left + right) / 2]
                for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    shape, left, right = fitted(block * np.roll(block, shift, (0, 1)))
                    mean_of = (right - left) * gamma(2 / shape) / gamma(1 / shape)
                    row += [shape, mean_of, left, right]
                rows.append(row)
        found.append(rows)
        half = resize_weights(len(luma), len(luma) // 2).numpy()
        luma = half @ luma @ half.T
    return np.concatenate(found, 1)


def test_features_and_distance_equal_the_transcription():
    """On an image with grain everywhere; the table's step is all that may differ."""
    image = (0.5 + 0.15 * draws(1, 3, 128, 128)).clamp(0, 1)
    image[..., 64:, :] = image[..., 64:, :].cumsum(-1).remainder(0.9)
    luma = (255 * np.tensordot((0.299, 0.587, 0.114), image[0].numpy(), 1)).round()
    wanted = transcribed(luma, 32)
    found = patch_features(image, 128, 32)
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=2e-3)
    middle, spread = np.linspace(0.1, 1.2, 36), np.diag(np.linspace(0.5, 2, 36))
    away = middle - wanted.mean(0)
    distance = np.sqrt(away @ np.linalg.pinv((spread + np.cov(wanted.T)) / 2) @ away)
    clean = Statistics(torch.from_numpy(middle), torch.from_numpy(spread), 128, 32)
    assert niqe(image, clean).item() == pytest.approx(distance, rel=2e-3)


NONE = {"downscale": (2.0, 2.0), "noise": (0.0, 0.0), "jpeg": (100.0, 100.0), "grey": 0.0}


@pytest.mark.parametrize(
    "strengths",
    [
        [{"blur": (s, s)} for s in (2.0, 4.0, 8.0)],
        [{"blur": (0.0, 0.0), "noise": (s, s)} for s in (4.0, 8.0, 16.0, 32.0)],
        [{"blur": (0.0, 0.0), "jpeg": (q, q)} for q in (30.0, 15.0, 5.0)],
        [{"blur": (0.0, 0.0), "downscale": (s, s)} for s in (4.0, 8.0)],
        [{"blur": (4.0, 4.0), "noise": (s, s)} for s in (0.0, 8.0, 16.0)],
    ],
    ids=["blur", "noise", "jpeg", "downscale", "blur and noise"],
)
def test_damage_raises_it(faces: Tensor, strengths: list[dict]):
    """Of each face by each step; by the first, which the grain of one veils, on average."""
    stages = [degrade_faces(faces, Degradation(**(NONE | changed))) for changed in strengths]
    figures = torch.stack([niqe(stage) for stage in [faces, *stages]])
    assert (figures[1:].diff(dim=0) > 0).all(), figures
    assert (figures.mean(1).diff() > 0).all(), figures


def test_clean_faces_are_near(faces: Tensor):
    assert (niqe(faces) < 3).all()
    assert niqe(draws(1, 3, 256, 256) * 0.2 + 0.5) > 8


def test_a_batch_equals_singles_everywhere(faces: Tensor):
    images = torch.cat([faces, faces.flip(3)]).repeat(3, 1, 1, 1)[:9]  # one more than at once
    before = images.clone()
    together = niqe(images)
    assert together.shape == (9,) and together.dtype == torch.float64
    for i in range(4):
        assert niqe(images[i : i + 1]).item() == pytest.approx(together[i].item(), rel=1e-9)
    assert torch.equal(images, before)
    with torch.inference_mode():
        assert torch.equal(niqe(images), together)
    torch.testing.assert_close(niqe(faces.half()), niqe(faces), rtol=0.1, atol=0)
    assert niqe(faces[:0]).shape == (0,)
    assert not niqe(faces.requires_grad_(True)).requires_grad


def test_an_image_measures_as_its_file(faces: Tensor):
    grey = faces.detach().mean(1, keepdim=True).expand_as(faces)
    torch.testing.assert_close(niqe(grey), niqe((grey * 255).round() / 255), rtol=0.02, atol=0)


def test_other_sizes_are_resized_first(faces: Tensor):
    faces = faces.detach()
    other = F.interpolate(faces, (160, 320), mode="bicubic", antialias=True).clamp(0, 1)
    rows, columns = resize_weights(160, 256).float(), resize_weights(320, 256).float()
    torch.testing.assert_close(niqe(other), niqe(rows @ other @ columns.mT), rtol=0.02, atol=0)
    assert (niqe(F.interpolate(faces, (96, 96), mode="area")) > niqe(faces)).all()


def test_patches_without_texture_do_not_count(faces: Tensor):
    faces = faces.detach()
    flat = torch.full_like(faces[:1], 0.5)
    half = torch.cat([faces[:1, :, :128], flat[:, :, 128:]], 2)
    figures = niqe(torch.cat([flat, half, faces[:1]]))
    assert figures[0].isnan() and figures[1:].isfinite().all()
    features = patch_features(half, 256, 32)[0]
    assert features[:24].isfinite().all() and features[40:].isnan().any(1).all()


def test_what_is_no_batch_of_images_is_refused():
    with pytest.raises(InputError, match="B×3×H×W"):
        niqe(torch.zeros(1, 1, 64, 64))
    with pytest.raises(InputError, match="finite"):
        niqe(torch.full((1, 3, 64, 64), torch.nan))


def test_statistics_files(tmp_path: Path):
    embedded = load_statistics()
    assert (embedded.size, embedded.patch) == (256, 32)
    assert torch.linalg.eigvalsh(embedded.covariance).min() > 0
    with pytest.raises(MissingWeightsError):
        load_statistics(tmp_path / "none.safetensors")
    path = tmp_path / "niqe.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(WrongArchitectureError, match="must hold NIQE statistics"):
        load_statistics(path)
    state = {"mean": torch.zeros(36), "covariance": torch.eye(36)}
    save_file(state, path, {"size": "256", "patch": "33"})
    with pytest.raises(WrongArchitectureError, match="patch 33"):
        load_statistics(path)
    save_file(state, path)
    with pytest.raises(WrongArchitectureError, match="size nothing"):
        load_statistics(path)
    save_file(state, path, {"size": "64", "patch": "32"})
    assert load_statistics(path).mean.dtype == torch.float64
