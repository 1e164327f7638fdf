"""Drawing the grain that a restored face lacks; `grain` gives the formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ..image.bands import Rows, bands, rows_of
from ..image.tensors import luma
from .grain import HALO, Grain, measure_grain, resized_spectrum, strength_at

Amount = float | Rows
"""How much of the grain that is missing is drawn, from 0 to 1; or that of some rows, 1×1×h×W."""

TILE = 2048  # px: bounds the memory for larger faces


def draw_grain(
    image: Tensor,
    share: Tensor,
    wanted: Grain,
    generator: torch.Generator,
    amount: float = 1.0,
) -> Tensor:
    """The grain that a restored face lacks.

    Args:
        image: 1×3×H×W RGB in [0, 1], the photograph with the face.
        share: 1×1×H×W in [0, 1], how much of each pixel is the restored face.
        wanted: the grain of the photograph.
        generator: draws it; of the CPU.
        amount: 0 (none) to 1 (as much as in the photograph).

    Returns:
        1×3×H×W, to be added to ``image``; 0 where ``share`` is.
    """
    most = float(share.max())
    return torch.cat(
        list(grain_in_bands(image, rows_of(share), most, wanted, generator, amount)), 2
    )


def grain_in_bands(
    image: Tensor,
    share: Rows,
    most: float,
    wanted: Grain,
    generator: torch.Generator,
    amount: Amount,
) -> Iterator[Tensor]:
    """`draw_grain` in bands of rows, from top to bottom; ``most`` is the largest share.

    Each band looks at `HALO` rows of ``image`` above itself, so write one when the next is drawn.
    Faces larger than `TILE` repeat their grain after that many pixels.
    """
    height, width = image.shape[-2:]
    noise = None
    if most > 0 and amount != 0:
        found = measure_grain(image, share, most)
        power = wanted.power
        if found is not None:
            power = (power - resized_spectrum(found.power, *power.shape)).clamp(min=0)
        tile = min(height, TILE), min(width, TILE)
        half = resized_spectrum(power, *tile, tile[1] // 2 + 1).to(image).sqrt()
        noise = _coloured(
            torch.randn(wanted.channels.shape[1], *tile, generator=generator).to(image),
            wanted.channels.to(image),
            half,
        )
        del half
    columns = torch.arange(width, device=image.device) % TILE
    for rows in bands(range(height), width, HALO):
        if noise is None:
            yield image.new_zeros(1, 3, len(rows), width)
            continue
        covered = share(rows)
        reach = (covered * (2 - covered)).sqrt() / math.sqrt(most * (2 - most))
        strength = strength_at(wanted.strength.to(image), _light(image, rows))
        drawn = noise.index_select(1, torch.tensor(rows, device=image.device) % TILE)
        if width > TILE:
            drawn = drawn.index_select(2, columns)
        yield (amount(rows) if callable(amount) else amount) * reach * strength * drawn


def _light(image: Tensor, rows: range) -> Tensor:
    """1×1×h×W, how bright an image is around each pixel of some rows."""
    first = max(rows.start - HALO, 0)
    light = luma(image[:, :, first : rows.stop + HALO])
    light = F.avg_pool2d(light, 2 * HALO + 1, 1, HALO, count_include_pad=False).clamp(0, 1)
    return light[:, :, rows.start - first :][:, :, : len(rows)]


def _coloured(white: Tensor, channels: Tensor, half: Tensor) -> Tensor:
    """C×H×W: K×H×W white noise mixed by C×K channels, with amplitudes of half a spectrum.

    One channel after the other, which saves memory.
    """
    mixed = torch.einsum("ck,khw->chw", channels, white)
    for channel in mixed:
        spectrum = torch.fft.rfft2(channel).mul_(half)
        torch.fft.irfft2(spectrum, s=channel.shape, out=channel)
    return mixed
