"""Networks run over whole photographs tile by tile, a band of tiles after the other.

Only one band is held besides the photograph: its rows are passed on before the next begins.
Where tiles overlap, they fade into each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import OutOfMemoryError, WrongArchitectureError
from ..records import OnStep
from ..runtime.memory import is_out_of_memory
from .upscale import Upscaler

_LEAST_TILE = 64
_LEAST_WEIGHT = 1e-7  # of a margin, where no other tile is

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Seams:
    """The joints of tiles, in pixels of a network's input.

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


@torch.no_grad()
def run_tiled(
    images: Tensor,
    upscaler: Upscaler,
    tile: int = 512,
    on_step: OnStep | None = None,
    seams: Seams = _FADING,
) -> Tensor:
    """Runs an upscaler tile by tile.

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
    count, channels, height, width = images.shape
    scale = upscaler.scale
    result = images.new_empty(count, channels, scale * height, scale * width)
    for index, top, rows in tiled_rows(images, upscaler, tile, on_step, seams):
        result[index, :, top : top + rows.shape[-2]] = rows
    return result


@torch.no_grad()
def tiled_rows(
    images: Tensor,
    upscaler: Upscaler,
    tile: int = 512,
    on_step: OnStep | None = None,
    seams: Seams = _FADING,
) -> Iterator[tuple[int, int, Tensor]]:
    """Runs an upscaler tile by tile, and gives its rows as soon as they are done.

    When memory runs out, the tiles are made smaller and the work goes on. Where the network keeps
    the size, the rows may be written over those they were made of: they are not read again.

    Args:
        images, upscaler, tile, on_step, seams: see `run_tiled`.

    Yields:
        The index of an image, the first of some rows of its result, and these: 3×h×(scale·W) in
        [0, 1], from top to bottom.

    Raises:
        WrongArchitectureError, OutOfMemoryError: see `run_tiled`.
    """
    work = _Work(upscaler, tile, seams, on_step, len(images))
    for index, image in enumerate(images):
        for top, rows in work.rows_of(image[None]):
            yield index, top, rows


@dataclass(slots=True)
class _Work:
    """A network's way through images of one size.

    Attributes:
        left: images that are not finished.
        done: tiles that are.
    """

    upscaler: Upscaler
    tile: int
    seams: Seams
    on_step: OnStep | None
    left: int
    done: int = 0

    def rows_of(self, image: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The rows of one image's result, as `tiled_rows` gives them."""
        height, scale = image.shape[-2], self.upscaler.scale
        spans = _spans(height, self.tile, self.seams)
        begun: Tensor | None = None  # the next rows as far as they are known, times their weights
        weights = torch.zeros(0)
        number = 0
        while number < len(spans):
            y0, y1 = spans[number]
            try:
                band = self._band(image, (y0, y1), len(spans) - number)
            except (RuntimeError, MemoryError) as error:
                self._shrink(error)
                rest = _spans(height - y0, self.tile, self.seams)
                spans[number:] = [(y0 + start, y0 + stop) for start, stop in rest]
                continue
            fade = _fade(y0, y1, height, scale, self.seams).to(band)
            band *= fade[:, None]
            if begun is not None:
                longer = len(weights) - len(fade)  # than a band of smaller tiles
                if longer > 0:
                    band, fade = F.pad(band, (0, 0, 0, longer)), F.pad(fade, (0, longer))
                band[:, : len(weights)] += begun
                fade[: len(weights)] += weights
            number += 1
            ready = scale * ((spans[number][0] if number < len(spans) else y1) - y0)
            begun, weights = band[:, ready:].clone(), fade[ready:]
            yield scale * y0, band[:, :ready].div_(fade[:ready, None]).clamp_(0, 1)
        self.left -= 1

    def _band(self, image: Tensor, rows: Span, bands_left: int) -> Tensor:
        """The tiles of some rows, joined: 3×(scale·h)×(scale·W)."""
        (y0, y1), (channels, width) = rows, (image.shape[1], image.shape[3])
        scale = self.upscaler.scale
        band = image.new_zeros(channels, scale * (y1 - y0), scale * width)
        weights = image.new_zeros(scale * width)
        columns, before = _spans(width, self.tile, self.seams), self.done
        total = before + len(columns) * bands_left * self.left
        for x0, x1 in columns:
            there = slice(scale * x0, scale * x1)
            fade = _fade(x0, x1, width, scale, self.seams).to(band)
            band[..., there] += self._run(image[..., y0:y1, x0:x1]).to(band) * fade
            weights[there] += fade
            self.done += 1
            if self.on_step is not None:
                self.on_step(self.done, total, None)
        return band.div_(weights)

    def _run(self, part: Tensor) -> Tensor:
        scale, (height, width) = self.upscaler.scale, part.shape[-2:]
        large = self.upscaler(part.to(self.upscaler.device, self.upscaler.dtype, copy=True))
        if large.shape[-2:] != (scale * height, scale * width):
            raise WrongArchitectureError(
                f"The upscaler must make {scale}× of {tuple(part.shape)}, got "
                f"{tuple(large.shape)}. Choose another one."
            )
        return large[0]

    def _shrink(self, error: Exception) -> None:
        """Halves the tiles after an error for want of memory; raises any other."""
        if not is_out_of_memory(error):
            raise error
        if self.tile // 2 < max(_LEAST_TILE, 2 * self.seams.overlap):
            raise OutOfMemoryError(
                f"Cannot upscale a tile of {self.tile} pixels: {error}. Close other programs, or "
                "use a smaller upscaler."
            ) from error
        self.tile //= 2


def _spans(length: int, tile: int, seams: Seams) -> list[Span]:
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
