"""How a restorer is fine-tuned: the settings of a run, and the paper's as presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..choices import DISTANCES, PRECISIONS, SCHEDULES
from ..errors import InputError

if TYPE_CHECKING:
    from ..restore.restorer import Restorer

REGRESSION, CODEBOOK = "regression", "codebook"
OBJECTIVES = (REGRESSION, CODEBOOK)
UNET, DETAIL = "unet", "detail"
DISCRIMINATORS = (UNET, DETAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """All that the numbers of a run depend on, beside the pairs and the restorer.

    Attributes:
        objective: "regression" (any network from image to image) or "codebook" (CodeFormer).
        steps: steps of the optimizer.
        batch: pairs a step, over all processes.
        micro_batch: pairs that go through the network at once; divides ``batch``.
        patch: side in pixels of the random squares that are cut from the pairs; None takes them
            whole, as a network of a fixed size needs.
        lr: learning rate at the start.
        lr_end: learning rate at the end of "cosine".
        schedule: "cosine" from ``lr`` to ``lr_end``; "steps", which multiplies it by ``gamma``
            at each of ``milestones``; or "constant".
        milestones: steps, increasing.
        gamma: factor of each milestone.
        warm_up: steps in which the rate rises from 0.
        betas: of the optimizer.
        weight_decay: of the optimizer (AdamW); 0 makes it Adam.
        clip: greatest norm of the restorer's gradient; 0 for none.
        ema: decay of the moving average that is scored and kept; 0 for none.
        flips: whether every other pair is mirrored.
        pixel: weight of the mean absolute error.
        perceptual: weight of the perceptual distance.
        distance: "lpips"; "pyramid", which needs no weights; or "auto", LPIPS where its
            weights are on this machine. The report and the result say which it was.
        discriminator: "unet", the published one, which needs many thousand steps; or "detail",
            which learns in some dozens and holds its pull at a share of the other losses'.
        adversarial: weight of the adversarial loss, with "detail" the share; 0 makes no
            discriminator.
        discriminator_channels: width of the discriminator.
        discriminator_lr: its learning rate, constant; None takes that of the restorer.
        code: weight of the cross-entropy of the codes (codebook).
        feature: weight of the distance of features to their codes (codebook).
        precision: "float32", or the type to which autocast lowers the networks' work.
        checkpointing: recompute activations in the backward pass; slower, with less memory.
        held_back: share of the pairs in [0, 0.5] that is scored and not trained with.
        seed: of the order, patches, flips and the discriminator's weights.
    """

    objective: str = REGRESSION
    steps: int = 500
    batch: int = 8
    micro_batch: int = 4
    patch: int | None = None
    lr: float = 1e-4
    lr_end: float = 1e-5
    schedule: str = "cosine"
    milestones: Sequence[int] = ()
    gamma: float = 0.5
    warm_up: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    flips: bool = True
    pixel: float = 1.0
    perceptual: float = 0.1
    distance: str = "auto"
    discriminator: str = UNET
    adversarial: float = 0.1
    discriminator_channels: int = 64
    discriminator_lr: float | None = None
    code: float = 0.5
    feature: float = 1.0
    precision: str = "float32"
    checkpointing: bool = False
    held_back: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("objective", OBJECTIVES),
            ("distance", DISTANCES),
            ("discriminator", DISCRIMINATORS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name} must be one of {list(choices)}, and {value!r} came.")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} must lie in [{low:g}, {high:g}], and {value} came.")
        if self.batch % self.micro_batch:
            raise InputError(
                f"micro_batch must divide batch, and {self.micro_batch} does not divide "
                f"{self.batch}."
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InputError(f"milestones must increase, and {list(self.milestones)} came.")
        if self.objective == REGRESSION and not self.pixel + self.perceptual + self.adversarial:
            raise InputError("Some of pixel, perceptual and adversarial must be above 0.")
        if self.discriminator == DETAIL and self.adversarial and not self.pixel + self.perceptual:
            raise InputError(
                "The detail discriminator pulls at a share of the other losses: set pixel or "
                "perceptual above 0, or choose the unet."
            )
        if self.objective == CODEBOOK and not self.code + self.feature:
            raise InputError("One of code and feature must be above 0.")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        factor = min(1.0, (step + 1) / self.warm_up) if self.warm_up else 1.0
        if self.schedule == "steps":
            return factor * self.lr * self.gamma ** sum(step >= at for at in self.milestones)
        if self.schedule == "cosine":
            way = 0.5 * (1 - math.cos(math.pi * min(1.0, step / self.steps)))
            return factor * (self.lr + (self.lr_end - self.lr) * way)
        return factor * self.lr

    def critic_rate(self, step: int) -> float:
        """The learning rate of the discriminator at a step."""
        return self.rate(step) if self.discriminator_lr is None else self.discriminator_lr

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return {**asdict(self), "milestones": list(self.milestones), "betas": list(self.betas)}


_RANGES = (
    ("steps", 0, 10**7),
    ("batch", 1, 4096),
    ("micro_batch", 1, 4096),
    ("patch", 16, 4096),
    ("lr", 0, 1),
    ("lr_end", 0, 1),
    ("gamma", 0, 1),
    ("warm_up", 0, 10**7),
    ("weight_decay", 0, 1),
    ("clip", 0, math.inf),
    ("ema", 0, 0.99999),
    ("pixel", 0, math.inf),
    ("perceptual", 0, math.inf),
    ("adversarial", 0, math.inf),
    ("discriminator_channels", 4, 512),
    ("discriminator_lr", 0, 1),
    ("code", 0, math.inf),
    ("feature", 0, math.inf),
    ("held_back", 0, 0.5),
    ("seed", 0, 2**64 - 1),
)

PRESETS: dict[str, FinetuneSettings] = {
    "quick": FinetuneSettings(
        batch=4,
        patch=128,
        discriminator=DETAIL,
        adversarial=1.0,
        discriminator_channels=32,
        discriminator_lr=1e-3,
        ema=0.99,
        clip=1.0,
    ),
    "SwinIR (paper)": FinetuneSettings(steps=20_000, batch=16, lr=2e-5, lr_end=5e-6),
    "CodeFormer (paper)": FinetuneSettings(
        objective=CODEBOOK,
        steps=40_000,
        lr=1e-4,
        schedule="steps",
        milestones=(35_000, 38_000),
        betas=(0.9, 0.99),
        ema=0.995,
    ),
}
"""The recipes of Kuai et al., section 4 and their published configuration, and a quick one for
small networks without a GPU."""


def preset_for(restorer: Restorer) -> str:
    """The name of the preset that suits a restorer's architecture and size."""
    if restorer.architecture == "CodeFormer":
        return "CodeFormer (paper)"
    return "quick" if restorer.architecture == "NAFNet" else "SwinIR (paper)"


def adjusted(settings: FinetuneSettings, **changes: Any) -> FinetuneSettings:
    """The same recipe with some settings changed, and with them what goes along.

    Along with ``steps`` go the milestones and the warm-up, with ``lr`` its end, and with
    ``batch`` the micro-batch, which becomes the largest that divides it and needs no more memory.
    What is changed itself stays as it is given.
    """
    along: dict[str, Any] = {}
    if "steps" in changes:
        scale = changes["steps"] / max(settings.steps, 1)
        along["milestones"] = tuple(sorted({round(at * scale) for at in settings.milestones}))
        along["warm_up"] = round(settings.warm_up * scale)
    if "lr" in changes and settings.lr:
        along["lr_end"] = settings.lr_end * changes["lr"] / settings.lr
    if "batch" in changes:
        fitting = range(1, settings.micro_batch + 1)
        along["micro_batch"] = max(n for n in fitting if changes["batch"] % n == 0)
    return replace(settings, **{**along, **changes})
