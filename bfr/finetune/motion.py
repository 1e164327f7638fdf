"""Motion of features between two restorations of the same faces."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.tensors import luma
from .look import blurred
from .shared import shared, slope

_SPREAD_PX, _SPREAD_SCALE, _SPREAD_APART = 0.2, 0.01, 0.05  # see `shared`
_FINE, _COARSE = 6.0, 24.0  # px: deviations of the windows that motion is told in
_UNSEEN = (0.1 / 255) ** 2  # the power of a change that is none
_CELL, _NEAR = 4, 3.0  # px, and cells: how wide a feature is whose size is measured
_RIM = 0.2  # of the side: hair and clothes, whose size is no matter
_SHOWN = 0.3  # times the average weight: with less, a place shows no motion


def changed(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """How the blurred luma of faces, N×1×S×S, changes, for `flow` and `trembling`.

    Slow changes of lightness are taken out, and the contrast of the whole.

    Returns:
        N×2×H×W slopes along x and y before, and N×1×H×W differences.
    """
    along_x = (before[..., 1:-1, 2:] - before[..., 1:-1, :-2]) / 2
    along_y = (before[..., 2:, 1:-1] - before[..., :-2, 1:-1]) / 2
    before, after = (x - blurred(x, 8.0) for x in (before, after))
    contrast = slope(before[:, 0], after[:, 0]).clamp(0.5, 2)[:, None, None, None]
    change = (after / contrast - before)[..., 1:-1, 1:-1]
    return torch.cat([along_x, along_y], 1), change


def flow(slopes: Tensor, change: Tensor, window: float = _FINE) -> tuple[Tensor, Tensor]:
    """Optical flow of features: N×2×H×W in px, and the N×1×H×W weight that it has.

    One step of Lucas and Kanade (1981) under Gaussian windows.

    Args:
        slopes, change: of `changed`.
        window: the deviation of the windows in px.
    """
    along_x, along_y = slopes.split(1, 1)
    xx, yy, xy, xt, yt = (
        blurred(product, window)
        for product in (
            along_x.square(),
            along_y.square(),
            along_x * along_y,
            along_x * change,
            along_y * change,
        )
    )
    weight = (xx * yy - xy.square()).clamp(min=0).sqrt()  # where edges of several directions meet
    xx, yy = xx + 1e-5, yy + 1e-5
    determinant = xx * yy - xy.square()
    found = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], 1) / determinant
    return found, weight.clamp(min=1e-12)


def trembling(slopes: Tensor, change: Tensor) -> Tensor:
    """N shares of a change of faces that motion to and fro within a feature explains.

    A repair is no motion: to flow in small windows it fits by chance only, as noise would.

    Args:
        slopes, change: of `changed`.
    """
    slow = _unexplained(slopes, change, _COARSE)
    left = _unexplained(slopes, slow, _FINE)
    whole, rest = (x.square().mean((1, 2, 3)) for x in (slow, left))
    return (whole - rest) / whole.clamp(min=_UNSEEN)


def _unexplained(slopes: Tensor, change: Tensor, window: float) -> Tensor:
    """What flow in windows of that deviation leaves of a change."""
    return change + (slopes * flow(slopes, change, window)[0]).sum(1, keepdim=True)


def moved(flow: Tensor, weight: Tensor) -> Tensor:
    """N mean lengths in px."""
    return (flow.norm(dim=1, keepdim=True) * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def reshaped(flow: Tensor, weight: Tensor) -> Tensor:
    """The motion in px of that eighth of the faces which moves most and alike in all."""
    side = flow.shape[-1] // 8
    weights = F.avg_pool2d(weight, side)
    cells = F.avg_pool2d(flow * weight, side) / weights.clamp(min=1e-12)
    return shared(cells * (weights.mean(0) > _SHOWN * weights.mean()), _SPREAD_PX)


def resized(flow: Tensor, weight: Tensor) -> Tensor:
    """The share by which a feature grows or shrinks in all faces alike, where one does most.

    Around each place, the slope of the flow away from it, by weighted least squares.
    """
    w = F.avg_pool2d(weight, _CELL).double()
    f = F.avg_pool2d(flow * weight, _CELL).double() / w
    line = torch.arange(w.shape[-1]).to(w) - w.shape[-1] / 2
    place = torch.stack([line.expand(len(line), -1), line[:, None].expand(-1, len(line))])
    mass = blurred(w, _NEAR)
    centre, mean = (blurred(w * x, _NEAR) / mass for x in (place.expand_as(f), f))
    square, product = (
        blurred(w * x.sum(1, keepdim=True), _NEAR) / mass
        for x in (place.square()[None].expand_as(f), place * f)
    )
    away = square - centre.square().sum(1, keepdim=True)
    scale = (product - (centre * mean).sum(1, keepdim=True)) / (_CELL * away.clamp(min=1.0))
    scale = scale * (mass.mean(0) > _SHOWN * mass.mean())
    rim = round(_RIM * scale.shape[-1])
    return shared(scale[..., rim:-rim, rim:-rim], _SPREAD_SCALE)


def apart(before: Tensor, after: Tensor) -> Tensor:
    """The distance in px that red and blue move from green in all N×3×S×S faces alike.

    A channel that moves changes by its displacement times the gradient, which is about the luma's.
    """
    grey = luma(after)
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    gradient = torch.stack([across.flatten(1), down.flatten(1)], 1)
    change = (after - before)[..., 1:-1, 1:-1].flatten(2)
    colours = torch.stack([change[:, 0] - change[:, 1], change[:, 2] - change[:, 1]], 1)
    square = gradient @ gradient.mT + 1e-4 * torch.eye(2).to(gradient)
    found = torch.linalg.solve(square, gradient @ colours.mT)
    return shared(found.flatten(1)[:, :, None, None], _SPREAD_APART)
