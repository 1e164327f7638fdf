"""Synthetic damage for clean faces: the blur, noise and compression that restorers train on.

The chain is GFPGAN's (Wang et al., 2021, eq. 5): ``y = ((x ⊛ k)↓r + n)JPEG q ↑r``, with a tone
change for old prints behind it. Before it may stand a halftone screen (`prints`), and in the
place of its noise n a camera's (`camera`). Blur is given in pixels of a 512 px face and scaled
with the crop, so that a preset looks alike at every size.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images, from_uint8, luma, to_uint8
from .camera import camera_noise
from .learned import LearnedDamage, draw_damage
from .prints import age_print, halftone

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Degradation:
    """Ranges from which each image draws its own damage.

    Attributes:
        blur: standard deviation of the Gaussian in pixels of a 512 px face.
        downscale: how many times smaller than a 512 px face the picture becomes; 0 leaves it.
        noise: standard deviation of the noise, of 255.
        jpeg: JPEG quality, 1 to 100; None does not pack it.
        grey: probability that the picture loses its colour.
        grain: probability that the noise is alike in all channels.
        fade: how far contrast falls and black lifts, 0 to 1.
        tint: strength of a warm paper tint, 0 to 1.
        iso: sensitivity of the camera that takes the small picture; 0 for none.
        screen: distance of halftone dots in pixels of a 512 px face; 0 for none.
    """

    blur: Range = (0.1, 10.0)
    downscale: Range = (0.8, 8.0)
    noise: Range = (0.0, 20.0)
    jpeg: Range | None = (60.0, 100.0)
    grey: float = 0.01
    grain: float = 0.0
    fade: Range = (0.0, 0.0)
    tint: Range = (0.0, 0.0)
    iso: Range = (0.0, 0.0)
    screen: Range = (0.0, 0.0)


NO_DAMAGE = Degradation((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), None, grey=0.0)
"""Changes nothing; `dataclasses.replace` what is to be damaged."""


def _camera(iso: float) -> Degradation:
    return replace(NO_DAMAGE, downscale=(4.0, 4.0), iso=(iso, iso))


DEGRADATIONS: dict[str, Degradation] = {
    "gfpgan": Degradation(),
    "low resolution": Degradation((0.5, 2.0), (6.0, 8.0), (0.0, 2.0), (85.0, 95.0), grey=0.0),
    "noise": Degradation((0.5, 2.0), (1.5, 2.5), (22.0, 28.0), (85.0, 95.0), grey=0.0),
    "compression": Degradation((0.5, 2.0), (2.0, 3.0), (0.0, 4.0), (22.0, 32.0), grey=0.0),
    "faded print": Degradation(
        (2.0, 4.0), (2.0, 3.0), (8.0, 14.0), (60.0, 75.0), 1.0, 1.0, (0.35, 0.5), (0.4, 0.6)
    ),
    "newspaper": Degradation(
        *((0.6, 1.2), (1.2, 2.0), (3.0, 8.0), (60.0, 85.0), 1.0, 1.0, (0.15, 0.3), (0.2, 0.5)),
        screen=(6.0, 9.0),
    ),
    "camera noise ISO 1500": _camera(1500),
    "camera noise ISO 3000": _camera(3000),
}
"""Named kinds of damage; ``gfpgan`` is the published training range, and camera noise that of
Kuai et al. (WACV 2025): a face of 512 px reduced four times, and no other damage."""


def degrade_faces(
    images: Tensor, preset: str | Degradation | LearnedDamage = "gfpgan", seed: int = 0
) -> Tensor:
    """Damages faces reproducibly; image i draws from a generator seeded ``seed + i``.

    Args:
        images: B×3×H×W RGB in [0, 1], each an aligned crop (or a picture as large as its face).
        preset: a name of `DEGRADATIONS`, your own ranges, or damage of `learn_damage`, which is
            for square faces.
        seed: any non-negative integer.

    Returns:
        B×3×H×W RGB in [0, 1], of the same size.

    Raises:
        InputError: if the preset is unknown or the images are no finite B×3×H×W batch.
    """
    check_images(images)
    if isinstance(preset, str):
        if preset not in DEGRADATIONS:
            raise InputError(
                f"preset must be one of {', '.join(DEGRADATIONS)}, got {preset!r}. Choose one."
            )
        preset = DEGRADATIONS[preset]
    draw = draw_damage if isinstance(preset, LearnedDamage) else _degrade
    damaged = [draw(images[i], preset, seed + i) for i in range(len(images))]  # pyright: ignore[reportArgumentType]
    return torch.stack(damaged).to(images) if damaged else images.clone()


def _degrade(image: Tensor, ranges: Degradation, seed: int) -> Tensor:
    """Damages one 3×H×W image."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[-2:]
    unit = max(height, width) / 512
    picture = image[None].float().cpu().clamp(0, 1)
    if rng.random() < ranges.grey:
        picture = luma(picture).expand(-1, 3, -1, -1)
    if max(ranges.screen) > 0:
        picture = halftone(picture, unit * rng.uniform(*ranges.screen))
    picture = _blur(picture, *(unit * rng.uniform(*ranges.blur, 2)), angle=rng.uniform(0, math.pi))
    scale = 1 / (unit * rng.uniform(*ranges.downscale) or 1.0)
    small = (max(4, round(height * scale)), max(4, round(width * scale)))
    picture = _resize(picture, small)
    if max(ranges.iso) > 0:
        picture = camera_noise(picture, rng.uniform(*ranges.iso), rng)
    channels = 1 if rng.random() < ranges.grain else 3
    noise = rng.standard_normal((1, channels, *small)) * rng.uniform(*ranges.noise) / 255
    picture = (picture + torch.from_numpy(noise).float()).clamp(0, 1)
    if ranges.jpeg is not None:
        picture = _jpeg(picture, round(rng.uniform(*ranges.jpeg)))
    picture = _resize(picture, (height, width))
    return age_print(picture, rng.uniform(*ranges.fade), rng.uniform(*ranges.tint))[0]


def _blur(image: Tensor, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """Blurs with a tilted Gaussian, multiplying spectra: any width costs the same."""
    if sigma_x == sigma_y == 0:
        return image
    pad = math.ceil(3 * max(sigma_x, sigma_y))
    height, width = image.shape[-2:]
    pad_y, pad_x = min(pad, height - 1), min(pad, width - 1)
    padded = F.pad(image, (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    fy = torch.fft.fftfreq(padded.shape[-2])[:, None]
    fx = torch.fft.rfftfreq(padded.shape[-1])[None]
    along = (fx * math.cos(angle) + fy * math.sin(angle)) * sigma_x
    across = (fy * math.cos(angle) - fx * math.sin(angle)) * sigma_y
    transfer = torch.exp(-2 * math.pi**2 * (along**2 + across**2))
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * transfer, s=padded.shape[-2:])
    return blurred[..., pad_y : pad_y + height, pad_x : pad_x + width]


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if size == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    """Packs a 1×3×H×W image as JPEG and unpacks it."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(to_uint8(image)[0]).save(packed, "JPEG", quality=quality)
    return from_uint8(np.array(Image.open(packed).convert("RGB"))[None])
