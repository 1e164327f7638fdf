"""The faces of one photograph laid over it, some rows at a time.

The formula is that of `bfr.faces.paste`. A face may be as large as the photograph, and pasting it
takes a dozen tensors of its size; in bands of rows most of them stay small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..image.bands import Rows, bands, rows_of
from ..image.colour import match_colour
from ..image.resize import resize_square
from ..image.warp import sample, sampling_grid
from ..runtime.memory import LARGE, give_back
from .around import around_face
from .detail import lost_share
from .grain import CELL, Grain, grain_shown, measure_grain
from .grain_drawing import Amount, grain_in_bands
from .place import Box, Place

_KEPT = 1 << 20  # pixels around a face whose shares are kept rather than computed again
_SHARPNESS = 2  # the higher, the narrower the blend between overlapping faces


@dataclass(frozen=True, slots=True, eq=False)
class PastedFace:
    """A restored face and where it goes.

    Attributes:
        place: in the photograph, not empty.
        restored: 1×3×S×S RGB in [0, 1].
        before: 1×3×S×S, as it was cut from the photograph.
        mask: 1×1×S×S in [0, 1].
    """

    place: Place
    restored: Tensor
    before: Tensor
    mask: Tensor


def blend(
    photo: Tensor,
    weights: Tensor,
    faces: Sequence[PastedFace],
    *,
    colour: str,
    strength: float,
    grain: float,
    generator: torch.Generator,
) -> None:
    """Lays restored faces over a photograph.

    Args:
        photo: 3×H×W float32 RGB in [0, 1]; it is changed.
        weights: 1×H×W; what of each pixel is replaced is added to it; 1×0×W for nothing.
        faces: all of this photograph, in the order in which they are pasted.
        colour, strength, grain: of `paste_faces`.
        generator: draws the grain; of the CPU.
    """
    around = [_part(photo, face.place.around) for face in faces]
    grains = [_grain_of(region) if grain else None for region in around]
    kept = [  # as it came, what faces that are pasted before may change
        [
            (box, _part(photo, box).clone())
            for other in faces[:i]
            if (box := face.place.shared(other.place))
        ]
        for i, face in enumerate(faces)
    ]
    for i, (face, region, wanted) in enumerate(zip(faces, around, grains, strict=True)):
        x0, y0, x1, y1 = face.place.box
        layers = _layers(face, colour, photo)
        if region.numel() > LARGE:  # not for each small face: memory given back is asked for again
            give_back()
        most = 0.0
        for band in bands(range(y0, y1), x1 - x0):
            now = photo[:, band.start : band.stop, x0:x1]
            grid = face.place.grid(face.place.box, _within(face.place.box, band), photo.device)
            share = strength * _share(i, faces, band, grid)
            before = _as_it_came(now, face.place.box, band, kept[i])
            new = torch.addcmul(now, share, _change(before, layers, grid)).clamp_(0, 1)
            torch.where(share > 0, new, now, out=now)
            if weights.numel():
                weights[:, band.start : band.stop, x0:x1] += share
            if wanted is not None:
                most = max(most, float(share.max()))
        kept[i].clear()
        if wanted is not None:
            measured, shown = wanted
            shares, amount = _shares(i, faces, strength, region), _amount(face, grain, shown)
            drawn = grain_in_bands(region[None], shares, most, measured, generator, amount)
            _add_grain(region, drawn)


def _shares(i: int, faces: Sequence[PastedFace], strength: float, region: Tensor) -> Rows:
    """The shares of face ``i`` in rows of its `Place.around`, of which ``region`` is the pixels.

    Those of a large face are computed as they are asked for, instead of kept.
    """
    place = faces[i].place
    top, y0, y1 = place.around[1], place.box[1], place.box[3]

    def in_rows(rows: range) -> Tensor:
        shares = region.new_zeros(1, 1, len(rows), region.shape[2])
        band = range(max(y0, top + rows.start), min(y1, top + rows.stop))
        if band:
            grid = place.grid(place.box, _within(place.box, band), region.device)
            first, left = band.start - top - rows.start, place.box[0] - place.around[0]
            there = shares[0, 0, first : first + len(band), left : left + grid.shape[2]]
            torch.mul(_share(i, faces, band, grid), strength, out=there)
        return shares

    _, height, width = region.shape
    return in_rows if height * width > _KEPT else rows_of(in_rows(range(height)))


def _grain_of(region: Tensor) -> tuple[Grain, Tensor] | None:
    """The grain of a part of a photograph, and how far it shows in each part of that."""
    grain = measure_grain(region[None])
    return None if grain is None else (grain, grain_shown(region[None], grain))


def _amount(face: PastedFace, grain: float, shown: Tensor) -> Amount:
    """The share of the grain that rows of `Place.around` get: beside the face, up to all of it.

    Half of it suits a face, but would show beside the same ground with all of its grain. Nothing
    gets more than what it had.
    """
    place, box = face.place, face.place.around
    around = around_face(face.restored.to(shown), face.mask.to(shown))
    amounts = grain + (min(1.0, 2 * grain) - grain) * around
    to_cells = torch.tensor([[1, 0, 0.5], [0, 1, 0.5]], dtype=torch.float64) / CELL
    to_cells[:, 2] -= 0.5
    cell_size = shown.shape[-2], shown.shape[-1]

    def in_rows(rows: range) -> Tensor:
        size = len(rows), box[2] - box[0]
        grid = place.grid(box, rows, shown.device)
        cells = sampling_grid(to_cells, size, cell_size, shown.device, rows.start)
        limits = sample(shown, cells, "bilinear", "border")
        return sample(amounts, grid, "bilinear", "border").mul_(limits)

    return in_rows


def _part(photo: Tensor, box: Box) -> Tensor:
    x0, y0, x1, y1 = box
    return photo[:, y0:y1, x0:x1]


def _as_it_came(now: Tensor, box: Box, band: range, kept: Sequence[tuple[Box, Tensor]]) -> Tensor:
    """Rows of a face's box before any face was pasted: as they are now but for what was kept."""
    shown = [(shared, part, rows) for shared, part in kept if (rows := _within(shared, band))]
    before = now.clone() if shown else now
    for shared, part, rows in shown:
        top, left = shared[1] - max(box[1], band.start), shared[0] - box[0]
        before[:, top + rows.start : top + rows.stop, left : left + part.shape[2]] = part[
            :, rows.start : rows.stop
        ]
    return before


def _add_grain(region: Tensor, drawn: Iterator[Tensor]) -> None:
    """Adds grain where there is some; each band is written when the next is drawn."""
    top, waiting = 0, next(drawn, None)
    while waiting is not None:
        band, waiting = waiting[0], next(drawn, None)
        bottom = top + band.shape[1]
        now = region[:, top:bottom]
        new = (now + band).clamp_(0, 1)
        torch.where(band != 0, new, now, out=now)
        top = bottom


def _within(box: Box, band: range) -> range:
    """The rows of a box, counted from its first, that lie in a band of the photograph."""
    return range(max(box[1], band.start) - box[1], min(box[3], band.stop) - box[1])


def _share(i: int, faces: Sequence[PastedFace], band: range, grid: Tensor) -> Tensor:
    """h×w: how much of each pixel in its box and the band face ``i`` has, beside its neighbours.

    The grid is that of these pixels.
    """
    place = faces[i].place
    share = _mask_at(faces[i], grid)
    first = max(place.box[1], band.start)
    mine, total = share**_SHARPNESS, None
    for j, other in enumerate(faces):
        shared = place.shared(other.place)
        if j == i or shared is None or not (rows := _within(shared, band)):
            continue
        total = mine.clone() if total is None else total
        down, x0 = shared[1] - first, place.box[0]
        region = slice(down + rows.start, down + rows.stop), slice(shared[0] - x0, shared[2] - x0)
        there = _mask_at(other, other.place.grid(shared, rows, grid.device))
        total[region] += there**_SHARPNESS
    return share if total is None else share * torch.where(mine > 0, mine / total, mine)


def _mask_at(face: PastedFace, grid: Tensor) -> Tensor:
    """Its mask at the pixels of a grid, h×w."""
    return sample(face.mask, grid, "bilinear", "zeros")[0, 0]


def _layers(face: PastedFace, colour: str, photo: Tensor) -> tuple[Tensor, Tensor]:
    """What the restorer changed and what was there, 1×6×S'×S', and the share of detail it gave up.

    S' is the crop's side, or that which it has in the photograph if that is less; the share varies
    slowly and is smaller, 1×1×s×s.
    """
    given, size, shrink = face.before.to(photo), face.before.shape[-1], face.place.shrink
    restored = match_colour(face.restored.to(photo), given, colour, face.mask)
    side = min(size, max(1, round(size * shrink)))
    before, restored = resize_square(given, side), resize_square(restored, side)
    lost = lost_share(before, restored, finer=2 * max(1.0, shrink))
    return torch.cat([restored - before, before], 1), lost


def _change(photo: Tensor, layers: tuple[Tensor, Tensor], grid: Tensor) -> Tensor:
    """``pasted − photo`` of the formula, 3×h×w, at the pixels of a grid."""
    change, before = sample(layers[0], grid, "bicubic", "border")[0].chunk(2)
    lost = sample(layers[1], grid, "bilinear", "border")[0]
    return change.addcmul_(lost, photo - before, value=-1)
