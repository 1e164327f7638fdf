"""Groups of faces by how light they are, for figures that tell who is served less well.

The data name nobody's group. What can be measured stands in for it: the lightness of the skin in
the picture, in which light and exposure count as well. It sorts photographs rather than people.
"""

from __future__ import annotations

import torch
from kornia.color import rgb_to_lab
from torch import Tensor

GROUPS = {"very dark": 0.0, "dark": 35.0, "medium": 50.0, "light": 62.0}
"""From which L* on; the three lighter ones are about the thirds of the held-out faces."""
_SKIN = ((0.36, 0.6), (0.64, 0.6), (0.5, 0.5), (0.5, 0.3))
"""Cheeks, nose and forehead of an aligned face: x and y in its sides."""
_REACH = 0.05
_SHINE = 0.35  # quantile below which a highlight does not lift it


def skin_lightness(faces: Tensor) -> Tensor:
    """The lightness L* (CIELAB) of the skin.

    Args:
        faces: N×3×S×S RGB in [0, 1], aligned.

    Returns:
        N values from 0 (black) to 100.
    """
    size, patches = faces.shape[-1], []
    for x, y in _SKIN:
        rows, columns = (
            slice(int((at - _REACH) * size), int((at + _REACH) * size)) for at in (y, x)
        )
        patches.append(rgb_to_lab(faces[:, :, rows, columns])[:, 0].flatten(1))
    return torch.cat(patches, 1).quantile(_SHINE, 1)


def repeats(faces: Tensor) -> Tensor:
    """Sampling weights of N×3×S×S aligned faces, so that a few dark ones do not drown.

    Returns:
        N whole numbers: 4 of very dark, 2 of dark, 1 of other faces.
    """
    lightness = skin_lightness(faces)
    return 1 + (lightness < GROUPS["medium"]).long() + 2 * (lightness < GROUPS["dark"]).long()


def by_group(values: Tensor, faces: Tensor) -> str:
    """The mean of N values among faces N×3×S×S of each group: ``"dark 26.10 (67 faces), …"``."""
    lightness = skin_lightness(faces)
    bounds = [*GROUPS.values(), float("inf")]
    return ", ".join(
        f"{name} {values[inside].mean():.2f} ({int(inside.sum())} faces)"
        for name, low, high in zip(GROUPS, bounds, bounds[1:], strict=False)
        if (inside := (lightness >= low) & (lightness < high)).any()
    )
