"""The parts of a restorer's losses: batches of pairs, and the interface of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ..restore.restorer import Restorer
from .discriminator import DetailDiscriminator, UNetDiscriminator
from .settings import FinetuneSettings

_FROZEN = {
    "CodeFormer": ("quantize.*", "generator.*", "fuse_convs_dict.*"),
    "RestoreFormer": ("quantize.*", "encoder.*attn*.norm2.*"),
    "GFPGAN": ("toRGB.*", "stylegan_decoder.style_mlp.*"),
}
"""Parameters that are not trained, by architecture: CodeFormer's because the recipe freezes them,
the others because the restored face does not depend on them, or not smoothly."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pairs to learn from.

    Attributes:
        lq: B×3×S×S RGB in [0, 1], damaged faces.
        target: B×3×S×S RGB in [0, 1], their pseudo targets.
        real: B×3×S×S RGB in [0, 1], other clean faces for the discriminator; None shows it the
            pseudo targets.
        guess: B×3×T×T RGB in [0, 1], the whole faces as the base restored them; None where the
            identity term is off.
        corners: B×2 places (y, x) in them that the others were cut from.
        names: of the guesses, the same for the same pixels; "" for one that is never seen again.
    """

    lq: Tensor
    target: Tensor
    real: Tensor | None = None
    guess: Tensor | None = None
    corners: Tensor | None = None
    names: tuple[str, ...] = ()

    def to(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        """The same on a device, and in the order that half precision and NAFNets are quick in."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        names = values.pop("names")
        moved = {name: value.to(device) for name, value in values.items() if value is not None}
        for name in ("lq", "target", "real") if channels_last else ():
            if name in moved:
                moved[name] = moved[name].contiguous(memory_format=torch.channels_last)
        return Batch(**moved, names=names)


class Objective(ABC):
    """The losses of one restorer. Its trainable parameters get ``requires_grad``.

    Attributes:
        discriminator: the adversary, or None.
    """

    discriminator: UNetDiscriminator | DetailDiscriminator | None = None

    def __init__(self, restorer: Restorer, settings: FinetuneSettings) -> None:
        self.restorer, self.settings = restorer, settings
        self.frozen = _FROZEN.get(restorer.architecture, ())
        for name, parameter in restorer.network.named_parameters():
            frozen = any(fnmatchcase(name, pattern) for pattern in self.frozen)
            parameter.requires_grad_(not frozen)

    def parameters(self) -> list[nn.Parameter]:
        """The restorer's trainable parameters, in the network's order."""
        return [p for p in self.restorer.network.parameters() if p.requires_grad]

    @abstractmethod
    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The restorer's losses, weighted means over the batch; their sum is the loss.

        They give the discriminator no gradient.

        Returns:
            The scalars by name, and the restored faces, B×3×S×S, not clamped; None where the
            recipe makes no image.
        """

    def critic_terms(self, batch: Batch, restored: Tensor) -> dict[str, Tensor]:
        """The discriminator's losses, each a mean over the batch; empty without one.

        Call it once after `terms` of the same batch. The discriminator's parameters alone need
        gradients of them.

        Args:
            batch: the one that ``restored`` was made from.
            restored: B×3×S×S of `terms`; gets no gradient.
        """
        return {}

    @abstractmethod
    def describe(self) -> str:
        """The losses in words, including the distance that was chosen and what is frozen."""


def in_words(parts: dict[str, float], frozen: tuple[str, ...]) -> str:
    losses = " + ".join(f"{name} × {weight:g}" for name, weight in parts.items() if weight)
    kept = ", ".join(pattern.removesuffix(".*") for pattern in frozen)
    return f"{losses}; frozen: {kept}" if kept else losses
