"""Upscalers: networks that enlarge whole photographs, run tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import OutOfMemoryError, WrongArchitectureError
from ..files.weights import read_state_dict
from ..records import OnStep
from ..runtime.memory import is_out_of_memory

_LEAST_TILE = 64


@dataclass(frozen=True, slots=True)
class Seams:
    """How tiles join, in pixels of a network's input.

    Attributes:
        overlap: by which a tile reaches into its neighbours, and fades into them.
        margin: the outer part of the overlap that does not count: where a network sees no farther
            than that, tiles join as if there were none.
        step: at whose multiples tiles begin.
    """

    overlap: int = 32
    margin: int = 0
    step: int = 1


_FADING = Seams()
_LEAST_WEIGHT = 1e-7  # of a margin, where no other tile is


class Upscaler(Protocol):
    """A network that enlarges images: any descriptor of spandrel, as Load Upscale Model gives."""

    @property
    def scale(self) -> int: ...

    @property
    def input_channels(self) -> int: ...

    @property
    def output_channels(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, image: Tensor, /) -> Tensor: ...


def load_upscaler(path: str | Path, check: Callable[[Any], None] | None = None) -> Any:
    """Loads a network that enlarges; its architecture is read from the file's keys.

    Args:
        path: a ``.safetensors`` or ``.pth`` file of an architecture that spandrel knows.
        check: refuses what does not fit; None is `check_upscaler`.

    Returns:
        spandrel's descriptor on the CPU in evaluation mode, an `Upscaler`.

    Raises:
        WeightsError: if the file is missing, corrupt, unsafe or no upscaler.
    """
    from spandrel import ImageModelDescriptor, ModelLoader

    state, _ = read_state_dict(Path(path))
    try:
        upscaler = ModelLoader().load_from_state_dict(dict(state))
    except Exception as error:  # unknown keys, or a shape that the architecture cannot have
        raise WrongArchitectureError(
            f"{path} must be an upscaler that spandrel knows, got first key "
            f"{next(iter(state), None)!r} ({type(error).__name__}). Choose another file."
        ) from error
    if not isinstance(upscaler, ImageModelDescriptor):
        raise WrongArchitectureError(
            f"{path} must be an upscaler, got a {type(upscaler).__name__}. Choose another file."
        )
    (check or check_upscaler)(upscaler)
    return upscaler.eval()


def check_upscaler(upscaler: Upscaler) -> None:
    """Raises WrongArchitectureError unless a network takes and gives RGB, and enlarges."""
    # A face restorer of ours, which fits the same socket, has a scale and no channels.
    channels = (getattr(upscaler, "input_channels", 3), getattr(upscaler, "output_channels", 3))
    if channels != (3, 3):
        raise WrongArchitectureError(
            f"An upscaler must take and give 3 channels (RGB), got {channels[0]} and {channels[1]}."
            " Choose another one."
        )
    if not upscaler.scale > 1:
        raise WrongArchitectureError(
            f"An upscaler must enlarge by 2 or more, got one of {upscaler.scale}×. Choose another "
            "one, or leave it out: the photograph is then resampled."
        )


@torch.no_grad()
def run_tiled(
    images: Tensor,
    upscaler: Upscaler,
    tile: int = 512,
    on_step: OnStep | None = None,
    seams: Seams = _FADING,
) -> Tensor:
    """Runs an upscaler tile by tile; where tiles overlap, they fade into each other.

    When memory runs out, the tiles are made smaller and the work goes on.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        upscaler: the network, on any device and in any dtype; tiles go to it.
        tile: the longer side of a tile in pixels, its overlap included.
        on_step: called with (tiles done, tiles in all, None).
        seams: how tiles join.

    Returns:
        B×3×(scale·H)×(scale·W) in [0, 1], on the device of ``images``.

    Raises:
        WrongArchitectureError: if the result has another size than the network promises.
        OutOfMemoryError: if there is not even memory for a small tile.
    """
    while True:
        try:
            return _run_tiles(images, upscaler, tile, on_step, seams)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if tile // 2 < max(_LEAST_TILE, 2 * seams.overlap):
                raise OutOfMemoryError(
                    f"There is not enough memory to upscale a tile of {tile} pixels. Close other "
                    f"programs, or use a smaller upscaler. ({error})"
                ) from error
            tile //= 2


def _run_tiles(
    images: Tensor, upscaler: Upscaler, tile: int, on_step: OnStep | None, seams: Seams
) -> Tensor:
    count, channels, height, width = images.shape
    rows, columns = (_spans(side, tile, seams) for side in (height, width))
    scale = upscaler.scale
    total, done = count * len(rows) * len(columns), 0
    result = images.new_zeros(count, channels, scale * height, scale * width)
    weights = images.new_zeros(1, 1, *result.shape[-2:])
    for y0, y1 in rows:
        for x0, x1 in columns:
            there = (..., slice(scale * y0, scale * y1), slice(scale * x0, scale * x1))
            down = _fade(y0, y1, height, scale, seams)
            across = _fade(x0, x1, width, scale, seams)
            weight = down[:, None] * across
            weights[there] += weight.to(weights)
            for index in range(count):
                part = images[index : index + 1, :, y0:y1, x0:x1]
                large = upscaler(part.to(upscaler.device, upscaler.dtype, copy=True))
                if large.shape[-2:] != (scale * (y1 - y0), scale * (x1 - x0)):
                    raise WrongArchitectureError(
                        f"The upscaler must make {scale}× of {tuple(part.shape)}, got "
                        f"{tuple(large.shape)}. Choose another one."
                    )
                result[index][there] += (large.to(result) * weight.to(result))[0]
                done += 1
                if on_step is not None:
                    on_step(done, total, None)
    return result.div_(weights).clamp_(0, 1)


def _spans(length: int, tile: int, seams: Seams) -> list[tuple[int, int]]:
    """Parts of an axis that overlap, about equally long, the last one at its end."""
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - seams.overlap) / (tile - seams.overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    starts = [start // seams.step * seams.step for start in starts]
    return [(start, start + tile) for start in starts[:-1]] + [(starts[-1], length)]


def _fade(start: int, stop: int, length: int, scale: int, seams: Seams) -> Tensor:
    """Weights along a tile: towards a neighbour rising over the overlap, behind the margin.

    They are never 0, and 1 at the picture's own borders.
    """
    place = (torch.arange(scale * (stop - start), dtype=torch.float32) + 0.5) / scale
    before = place if start > 0 else torch.full_like(place, math.inf)
    behind = stop - start - place if stop < length else torch.full_like(place, math.inf)
    inside = torch.minimum(before, behind) - seams.margin
    return (inside / (seams.overlap - seams.margin)).clamp(_LEAST_WEIGHT, 1)
