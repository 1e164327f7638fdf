"""Labelled sheets: pictures in a grid on dark grey, with headings, captions and coloured frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from .lettering import INK, Text, cut_to_width, drawable, line_height, wrapped
from .tensors import check_images, from_uint8

RED, AMBER = "#e5484d", "#f5a524"
"""Colours of frames."""

_PAPER, _WELL = "#232323", "#1a1a1a"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet, and where its cells are.

    Attributes:
        picture: 1×3×H×W float32 RGB in [0, 1] on the CPU.
        boxes: (left, top, right, bottom) of each cell with its caption, in pixels.
    """

    picture: Tensor
    boxes: tuple[tuple[int, int, int, int], ...]


def sheet(images: Sequence[Tensor] | Tensor, labels: Sequence[str] = (), **options: Any) -> Tensor:
    """The picture of `lay_out`, which names the options: 1×3×H×W float32 RGB in [0, 1]."""
    return lay_out(images, labels, **options).picture


def lay_out(
    images: Sequence[Tensor] | Tensor,
    labels: Sequence[str] = (),
    *,
    columns: int | None = None,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    cell_size: int | tuple[int, int] | None = None,
    gap: int | None = None,
    frames: Sequence[str | None] = (),
) -> Sheet:
    """Lays pictures out in labelled rows and columns.

    A picture of another size than the cells is scaled to fit, in its proportions; one of their
    size keeps its pixels exactly. Text wraps at spaces within its cell, keeps line breaks (what
    follows a break is fainter) and is cut with "…" where it is too long.

    Args:
        images: N pictures of 3×H×W RGB in [0, 1], each of any size, or one N×3×H×W batch, row by
            row; on any device.
        labels: N captions below the pictures, or none.
        columns: pictures a row; None for as many as there are column labels, or else for a sheet
            about as wide as high.
        row_labels: a heading to the left of each row, or none.
        column_labels: a heading above each column, or none.
        title: one line above everything.
        cell_size: (height, width), or the side of square cells, in pixels; None for the
            largest height and the largest width among the pictures.
        gap: pixels between the cells, at least 6 with frames; None to suit the cells' size.
        frames: N colours (`RED`, `AMBER` or any that Pillow knows) to frame
            pictures with, None for a picture without; or nothing.

    Raises:
        InputError: if there is no picture, one is no finite 3×H×W, a colour is unknown, or the
            counts or sizes do not fit.
    """
    pictures = list(images)
    for index, picture in enumerate(pictures):
        check_images(picture[None] if isinstance(picture, Tensor) else picture, f"picture {index}")
    if not pictures:
        raise InputError("A sheet must have at least one picture, got none. Give one.")
    if columns is None:
        columns = len(column_labels) or _pleasant_columns(len(pictures))
    if cell_size is None:
        cell_size = max(p.shape[-2] for p in pictures), max(p.shape[-1] for p in pictures)
    height, width = (cell_size, cell_size) if isinstance(cell_size, int) else cell_size
    gap = max(6, round(width / 24)) if gap is None else gap
    _check_sizes(columns, height, width, gap, 6 if any(frames) else 0)
    _check_count("labels", labels, len(pictures))
    _check_count("frames", frames, len(pictures))
    _check_count("row labels", row_labels, -(-len(pictures) // columns))
    _check_count("column labels", column_labels, columns)
    colours = [None if frame is None else _rgb(frame) for frame in frames]

    size = min(max(round(width / 17), 12), 26)
    font, heading, large = (ImageFont.load_default(size * k) for k in (1.0, 1.15, 1.5))
    captions = [wrapped(text, font, width) for text in labels]
    above = [wrapped(text, heading, width) for text in column_labels]
    beside = [wrapped(text, heading, width) for text in row_labels]
    headline = line_height(large) if title else 0
    plan = _plan((height, width), gap, columns, size, headline, captions, above, beside)
    wells = [plan.place(index) for index in range(len(pictures))]

    paper = Image.new("RGB", plan.full(len(pictures)), _PAPER)
    pen = ImageDraw.Draw(paper)
    if title:
        line = cut_to_width(drawable(title), large, paper.width - 2 * plan.margin)
        pen.text((plan.margin, plan.margin - size // 4), line, INK, large)
    _write_headings(pen, plan, above, beside)
    _draw_wells(pen, plan, wells, colours, captions)
    drawn = from_uint8(np.array(paper)[None])
    for picture, (x, y) in zip(pictures, wells, strict=True):
        fitted = _fitted(picture, height, width)
        high, wide = fitted.shape[-2:]
        y, x = y + (height - high) // 2, x + (width - wide) // 2
        drawn[0, :, y : y + high, x : x + wide] = fitted
    return Sheet(drawn, tuple((x, y, x + width, y + height + plan.below) for x, y in wells))


@dataclass(frozen=True, slots=True)
class _Plan:
    """The positions and sizes of everything, in pixels.

    Attributes:
        height, width: of a cell.
        gap: between cells, captions included.
        columns: cells per row.
        size: of the captions' letters.
        margin: around everything.
        left, top: where the first cell begins.
        below: the room of a caption.
    """

    height: int
    width: int
    gap: int
    columns: int
    size: int
    margin: int
    left: int
    top: int
    below: int

    def place(self, index: int) -> tuple[int, int]:
        """The left and upper edge of a cell."""
        row, column = divmod(index, self.columns)
        x = self.left + column * (self.width + self.gap)
        return x, self.top + row * (self.height + self.below + self.gap)

    def full(self, count: int) -> tuple[int, int]:
        """The (width, height) of a sheet of ``count`` cells."""
        x, y = self.place(-(-count // self.columns) * self.columns - 1)
        return x + self.width + self.margin, y + self.height + self.below + self.margin


def _plan(
    cell: tuple[int, int],
    gap: int,
    columns: int,
    size: int,
    headline: int,
    captions: Sequence[Text],
    above: Sequence[Text],
    beside: Sequence[Text],
) -> _Plan:
    """Makes room for the title, ``headline`` pixels high, the headings and the captions."""
    margin = max(gap, size)
    headline = margin + (headline + size // 2 if headline else 0)
    return _Plan(
        *cell,
        gap,
        columns,
        size,
        margin,
        left=margin + (max(text.width for text in beside) + margin if beside else 0),
        top=headline + (max(text.height for text in above) + size // 2 if above else 0),
        below=max(t.height for t in captions) + size // 2 + size // 3 if captions else 0,
    )


def _write_headings(
    pen: ImageDraw.ImageDraw, plan: _Plan, above: Sequence[Text], beside: Sequence[Text]
) -> None:
    for column, text in enumerate(above):
        x, y = plan.place(column)
        text.write(pen, x + plan.width / 2, y - plan.size // 2 - text.height, "m")
    for row, text in enumerate(beside):
        x, y = plan.place(row * plan.columns)
        text.write(pen, x - plan.margin, y + (plan.height - text.height) / 2, "r")


def _draw_wells(
    pen: ImageDraw.ImageDraw,
    plan: _Plan,
    wells: Sequence[tuple[int, int]],
    colours: Sequence[tuple[int, ...] | None],
    captions: Sequence[Text],
) -> None:
    """Draws each cell's dark ground with its frame and caption."""
    thick = min(max(3, round(plan.width / 80)), plan.gap // 2)
    for index, (x, y) in enumerate(wells):
        right, bottom = x + plan.width, y + plan.height
        pen.rectangle((x, y, right - 1, bottom - 1), _WELL)
        if colours and (colour := colours[index]) is not None:
            frame = (x - thick, y - thick, right + thick - 1, bottom + thick - 1)
            pen.rectangle(frame, outline=colour, width=thick)
        if captions:
            captions[index].write(pen, x + plan.width / 2, bottom + plan.size // 2, "m")


def _check_sizes(columns: int, height: int, width: int, gap: int, least_gap: int) -> None:
    if columns < 1 or min(height, width) < 16 or gap < least_gap:
        raise InputError(
            f"A sheet must have at least 1 column, cells of 16 pixels and a gap of {least_gap}, "
            f"got {columns} columns, cells of {width}×{height} pixels and a gap of {gap}. "
            "Raise what is less."
        )


def _check_count(name: str, given: Sequence[object], needed: int) -> None:
    if given and len(given) != needed:
        raise InputError(
            f"This sheet must have {needed} {name} or none, got {len(given)}. Give one for each."
        )


def _rgb(colour: str) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(colour)
    except ValueError as error:
        raise InputError(
            f"A colour must be a name or '#rrggbb', got {colour!r}. Write, for example, 'red'."
        ) from error


def _pleasant_columns(count: int) -> int:
    """The number of columns, equal to the rows or a little more: 1 2 3 2 3 3 4 4 3 …"""
    return count if count <= 3 else round((1.3 * count) ** 0.5)


def _fitted(picture: Tensor, height: int, width: int) -> Tensor:
    """A 3×H×W picture scaled to fit a cell, on the CPU and in [0, 1]."""
    scale = min(height / picture.shape[-2], width / picture.shape[-1])
    size = [max(1, round(side * scale)) for side in picture.shape[-2:]]
    picture = picture.detach().cpu().float()
    if size != list(picture.shape[-2:]):
        picture = F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]
    return picture.clamp(0, 1)
