"""The picture around the faces: noise, grain and JPEG blocks taken out, as in the faces.

A network that keeps the size works tile by tile: the embedded one, or any of the user's. Faces are
pasted over its result. It changes no tones, and invents nothing: what it cannot tell from noise,
it smooths.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..choices import AUTO
from ..errors import InputError, WrongArchitectureError
from ..files.handles import NetworkHandle
from ..files.manifest import EMBEDDED_DIR
from ..image.tensors import check_images
from ..records import OnStep
from ..runtime.memory import LARGE, give_back
from ..runtime.precision import chosen_precision, computing
from .grey import find_grey, without_tint
from .norms import fuse_norms
from .restorer import Restorer
from .tiles import Seams, tiled_rows
from .upscale import Upscaler, load_upscaler

EMBEDDED_BACKGROUND = EMBEDDED_DIR / "background.safetensors"

REACH = 64
"""Pixels around a pixel on which the embedded network's result depends, at most."""

_STEP = 8  # pixels that the embedded network folds into one, three times two
TILE = 640
_FADING_TILE = 512  # of networks that say nothing of their reach
_HUGE, _SMALL_TILE = 150_000_000, 448  # values of a photograph for which smaller tiles are used
_SEAMS = Seams(overlap=2 * REACH + _STEP, margin=REACH, step=_STEP)


@dataclass(frozen=True, eq=False)
class BackgroundRestorer(NetworkHandle):
    """The embedded network, an `Upscaler` of 1×.

    Attributes:
        precision: what it computes in, one of `PRECISIONS` or "auto".
        scale, input_channels, output_channels: of `Upscaler`.
        seams: how its tiles join.
    """

    precision: str = AUTO
    scale: int = 1
    input_channels: int = 3
    output_channels: int = 3
    seams: Seams = _SEAMS

    def __call__(self, image: Tensor, /) -> Tensor:
        """One pass over B×3×H×W in [0, 1] of any size, on its device; not clamped."""
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % _STEP, 0, -height % _STEP), mode="replicate")
        padded = padded.contiguous(memory_format=torch.channels_last)  # its norms are quickest so
        lower = chosen_precision(self.precision, image.device)
        with computing(lower, image.device):
            clean = self.network(padded).to(image)
        if lower != "float32" and not clean.isfinite().all():
            clean = self.network(padded)
        return clean[..., :height, :width]


def load_background(path: Path | None = None, *, precision: str = AUTO) -> BackgroundRestorer:
    """Loads the embedded network.

    Args:
        path: another file of the same recipe; None for the embedded one.
        precision: of `BackgroundRestorer`.

    Returns:
        It, on the CPU in evaluation mode and float32.

    Raises:
        WeightsError: if the file is missing, corrupt or another network.
    """
    path = path or EMBEDDED_BACKGROUND
    descriptor = load_cleaner(path)
    if descriptor.architecture.name != "NAFNet":
        raise WrongArchitectureError(
            f"{path} must be a NAFNet of recipes/background.py, got a "
            f"{descriptor.architecture.name}. Leave it out: the embedded one is used then."
        )
    network = descriptor.model.float().eval()
    fuse_norms(network)
    return BackgroundRestorer(network, path.stem, precision=precision)


def load_cleaner(path: str | Path) -> Any:
    """`load_upscaler`, for a network that keeps the size."""
    return load_upscaler(path, check_cleaner)


def check_cleaner(cleaner: object) -> None:
    """Raises WrongArchitectureError unless a network takes and gives RGB of the same size."""
    if isinstance(cleaner, Restorer):
        raise WrongArchitectureError(
            f"The background's network must be for whole pictures, got the face restorer "
            f"{cleaner.name}. Leave it out: the embedded one is used then."
        )
    channels = [getattr(cleaner, f"{side}_channels", 3) for side in ("input", "output")]
    if channels != [3, 3]:
        raise WrongArchitectureError(
            "The background's network must take and give 3 channels (RGB), got "
            f"{channels[0]} and {channels[1]}. Choose another one."
        )
    scale = getattr(cleaner, "scale", None)
    if scale != 1:
        raise WrongArchitectureError(
            f"The background's network must keep the size (1×), got one of {scale}×. Use it as the "
            "upscaler, choose a 1× denoiser, or leave it out: the embedded one is used then."
        )


def check_strength(strength: float) -> None:
    """Raises InputError unless a strength is from 0 to 1."""
    if not 0 <= strength <= 1:
        raise InputError(f"background must be in [0, 1], got {strength}.")


@torch.no_grad()
def restore_background(
    images: Tensor,
    strength: float = 1.0,
    cleaner: Upscaler | None = None,
    on_step: OnStep | None = None,
    in_place: bool = False,
) -> Tensor:
    """Takes noise, grain and JPEG blocks out of whole pictures.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        strength: blend in [0, 1] from the picture (0, bit-exact and nothing is loaded) to the
            network's result (1).
        cleaner: a network of 1×, on any device; None loads the embedded one to the images' device.
        on_step: called with (tiles done, tiles in all, None).
        in_place: write into ``images``, which saves the memory of a copy.

    Returns:
        B×3×H×W in [0, 1], on the device of ``images``; a grey picture stays grey. With strength 0
        or ``in_place``, ``images`` itself.

    Raises:
        InputError: for images or a strength out of their range.
        WrongArchitectureError: for a cleaner that changes the size, or that is for faces.
        OutOfMemoryError: if there is not even memory for a small tile.
    """
    check_images(images)
    check_strength(strength)
    if cleaner is not None:
        check_cleaner(cleaner)
    if strength == 0 or not len(images):
        return images
    if cleaner is None:
        cleaner = load_background().to(images.device)
    values = images[0].numel()
    large = values > LARGE
    if large:
        give_back()  # what finding its faces took
    seams, grey = getattr(cleaner, "seams", Seams()), find_grey(images)
    cleaned = images if in_place else torch.empty_like(images)
    for index, top, rows in tiled_rows(images, cleaner, _tile_for(values, seams), on_step, seams):
        if large:
            give_back()  # what the network took
        there = slice(index, index + 1), slice(None), slice(top, top + rows.shape[-2])
        mixed = torch.lerp(images[there], rows[None], strength, out=rows[None])
        cleaned[there] = without_tint(grey[there[0]], mixed)
    return cleaned


def _tile_for(values: int, seams: Seams) -> int:
    """The side of the tiles of a photograph of so many values, whose memory they share."""
    if not seams.margin:
        return _FADING_TILE
    return TILE if values <= _HUGE else _SMALL_TILE
