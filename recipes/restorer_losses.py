"""The losses of the embedded restorer's recipe."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bfr.faces.identity import Identity, identity_loss
from bfr.image.geometry import face_template
from bfr.quality.perceptual import pyramid_distance

from .aligned import SIZE


@cache
def part_weights(size: int) -> Tensor:
    """The weights of errors at each pixel of an aligned face, size×size, 1 on average."""
    places = torch.arange(size)
    chosen, reach = PARTS
    x, y = face_template(size)[list(chosen)].float().T[..., None]
    across = torch.exp(-((places - x) ** 2) / (2 * (reach * size) ** 2))
    down = torch.exp(-((places - y) ** 2) / (2 * (reach * size) ** 2))
    weights = 1 + PARTS_WEIGHT * (down[..., None] * across[:, None]).amax(0)
    return weights / weights.mean()


PARTS = ((0, 1, 3, 4), 0.055)
"""The landmarks of eyes and mouth, and how far around each one counts, in sides of the crop."""
PARTS_WEIGHT = 2.0  # how much more an error counts in the middle of an eye
IDENTITY_WEIGHT = 1.0  # more (GFPGAN: 10) buys likeness with errors
HIDDEN = (1.0, 3.0)
"""Widths in pixels of the blur behind which the person is compared. Without it the restorer learns
faint grids that mislead the recognition network and that one can see."""


def restoration_loss(restored: Tensor, clean: Tensor) -> Tensor:
    """L1 + 0.05 × L1 of the orthonormal 2-D spectrum."""
    spectrum = torch.view_as_real(torch.fft.rfft2(restored - clean, norm="ortho"))
    apart = (restored - clean).abs()
    if clean.shape[-1] == SIZE:
        apart = apart * part_weights(SIZE).to(apart)
    return apart.mean() + 0.05 * spectrum.abs().mean()


def person_loss(restored: Tensor, clean: Tensor, identity: Identity) -> Tensor:
    """`identity_loss` behind a blur of a random width."""
    blur = float(torch.empty(()).uniform_(*HIDDEN))
    return identity_loss(restored, clean, identity, blur / SIZE)


def whole_face_loss(restored: Tensor, clean: Tensor, identity: Identity) -> Tensor:
    """`restoration_loss`, how different they look, and how far the person is from being the same.

    To ask for more detail by its local contrast was tried: the network then draws a faint grid on
    smooth skin, which measures better (NIQE) and looks worse.
    """
    likeness = IDENTITY_WEIGHT * person_loss(restored, clean, identity)
    looks = 0.2 * pyramid_distance(restored, clean).mean()
    return restoration_loss(restored, clean) + looks + likeness


def critic_loss(critic: nn.Module, clean: Tensor, restored: Tensor) -> Tensor:
    """The critic's hinge loss (Lim and Ye 2017): 2 when it knows nothing, 0 when all."""
    return F.relu(1 - critic(clean)).mean() + F.relu(1 + critic(restored.detach())).mean()
