"""Plots: curves over the steps of a run, and bars of figures, in the colours of `sheets`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from .tensors import from_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAPER, _WELL, _INK, _FAINT, _GRID = "#232323", "#1a1a1a", "#ececec", "#a8a8a8", "#3a3a3a"
_COLOURS = ("#56b4e9", "#e69f00", "#2fbf8f", "#e27ab0", "#f0e442", "#d8703a", "#9a8cf0", "#c8c8c8")
_DPI = 100
_NOISY = 60  # points from which a curve is drawn as its moving mean
_SIZE = 9.6, 5.4  # inches of a plot of curves
_PAD = 0.1  # inches around all that is drawn

Curve = tuple[Sequence[float], Sequence[float]]


def curves(series: Mapping[str, Curve], title: str = "", *, log: bool = False) -> Tensor:
    """Draws figures over the steps of a run.

    A curve of more than 60 points is drawn as its moving mean over a thirtieth of them, with the
    points themselves faintly behind. Values that are not finite are left out.

    Args:
        series: by name, as many steps as values.
        title: a line above, or none.
        log: whether the vertical axis is logarithmic; values up to 0 are then left out.

    Returns:
        1×3×540×960 float32 RGB in [0, 1] on the CPU.

    Raises:
        InputError: if there is no curve, or one has not as many steps as values.
    """
    if not series:
        raise InputError("A plot must have at least one curve, got none. Give a series.")
    figure = _figure(_SIZE)
    axes = figure.add_subplot()
    _dress(axes)
    for number, (name, (steps, values)) in enumerate(series.items()):
        if len(steps) != len(values):
            raise InputError(
                f"The curve {name!r} must have as many values as steps, got {len(steps)} steps and "
                f"{len(values)} values. Give as many of the one as of the other."
            )
        x, y = np.asarray(steps, float), np.asarray(values, float)
        shown = np.isfinite(y) & (y > 0 if log else True)
        x, y = x[shown], y[shown]
        colour = _COLOURS[number % len(_COLOURS)]
        if len(y) > _NOISY:
            axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.3)
            y = _moving_mean(y, len(y) // 30)
        marker = "o" if len(y) <= 20 else None
        axes.plot(x, y, color=colour, linewidth=1.8, marker=marker, markersize=4, label=name)
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_title(title, color=_INK, fontsize=13, loc="left")
    axes.legend(
        frameon=False, labelcolor=_INK, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0
    )
    return _drawn(figure)


def bars(panels: Mapping[str, Mapping[str, Sequence[float]]], title: str = "") -> Tensor:
    """Draws bar charts of several things side by side: a panel per figure, a bar per thing.

    A bar is as high as the mean of its values, which are drawn as dots where there are several.
    Values that are not finite are left out; a bar without any stays empty, marked ∞ if they are
    infinite.

    Args:
        panels: by the figure's title, the values by the thing's name; each panel has the same
            names in the same order.
        title: a line above, or none.

    Returns:
        1×3×H×W float32 RGB in [0, 1] on the CPU.

    Raises:
        InputError: if there is no panel, one has no bar, or the panels' names differ.
    """
    names = list(next(iter(panels.values()), {}))
    if not names:
        raise InputError("A plot must have at least one panel with a bar, got none. Give a panel.")
    if other := next((panel for panel in panels if list(panels[panel]) != names), None):
        raise InputError(
            f"All panels must have the bars {names}, got {list(panels[other])} in {other!r}. Give "
            "all of them the same."
        )
    rows = -(-len(panels) // 4)
    columns = -(-len(panels) // rows)
    wide = max(2.4, 0.9 * len(names))
    figure = _figure((columns * wide + 0.4, rows * 2.7 + (0.9 if title else 0.5)))
    for place, (heading, values) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        _dress(axes)
        axes.grid(False)
        axes.set_title(heading, color=_INK, fontsize=10)
        for number, name in enumerate(names):
            _bar(axes, number, values[name])
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.margins(y=0.15)
        axes.set_xticks([])
    handles = [_patch(_COLOURS[number % len(_COLOURS)], name) for number, name in enumerate(names)]
    if len(names) > 1:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(names), columns),
            frameon=False,
            labelcolor=_INK,
        )
    if title:
        figure.suptitle(title, color=_INK, fontsize=13)
    return _drawn(figure)


def _bar(axes: Axes, number: int, values: Sequence[float]) -> None:
    known = [value for value in values if math.isfinite(value)]
    if not known and math.inf not in values:
        return
    mean = sum(known) / len(known) if known else 0.0
    axes.bar(number, mean, width=0.7, color=_COLOURS[number % len(_COLOURS)])
    top = max(mean, 0)
    if len(known) > 1:
        spread = np.linspace(-0.22, 0.22, len(known))
        axes.scatter(number + spread, known, s=7, color=_INK, alpha=0.55, linewidths=0)
        top = max(*known, 0)
    axes.annotate(
        f"{mean:.4g}" if known else "∞",
        (number, top),
        (0, 3),
        textcoords="offset points",
        ha="center",
        color=_INK,
        fontsize=9,
    )


def _patch(colour: str, name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=name)


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=_PAD, w_pad=_PAD)
    figure = Figure(size, dpi=_DPI, facecolor=_PAPER, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes) -> None:
    axes.set_facecolor(_WELL)
    axes.tick_params(which="both", colors=_FAINT, labelsize=9)
    axes.xaxis.label.set_color(_FAINT)
    axes.grid(True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID)


def _moving_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value and of up to ``reach`` neighbours to either side."""
    sums = np.concatenate([[0.0], values.cumsum()])
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def _drawn(figure: Figure) -> Tensor:
    canvas: Any = figure.canvas
    canvas.draw()
    return from_uint8(np.asarray(canvas.buffer_rgba())[None, ..., :3])
