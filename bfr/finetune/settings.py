"""Recipes: the settings of a run, and presets, the paper's among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..choices import AUTO, DISTANCES, PRECISIONS, SCHEDULES
from ..errors import InputError

if TYPE_CHECKING:
    from ..restore.restorer import Restorer

REGRESSION, CODEBOOK = "regression", "codebook"
OBJECTIVES = (REGRESSION, CODEBOOK)
UNET, DETAIL = "unet", "detail"
DISCRIMINATORS = (UNET, DETAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """All that the numbers of a run depend on, besides the pairs and the restorer.

    Attributes:
        objective: "regression" (any network from image to image) or "codebook" (CodeFormer).
        steps: steps of the optimizer.
        batch: pairs per step, over all processes.
        micro_batch: pairs that go through the network at once; divides ``batch``.
        patch: side in pixels of the random squares cut from the pairs; None takes whole pairs, as
            a network of a fixed size needs.
        lr: learning rate at the start.
        lr_end: learning rate at the end of "cosine".
        schedule: "cosine" from ``lr`` to ``lr_end``; "steps", which multiplies it by ``gamma``
            at each of ``milestones``; or "constant".
        milestones: steps, increasing.
        gamma: factor of each milestone.
        betas: decay rates of AdamW's two moments.
        weight_decay: AdamW's; 0 makes it Adam.
        clip: largest norm of the restorer's gradient; 0 for no limit.
        ema: decay of the moving average that is scored and kept; 0 for none.
        flips: mirror every other pair, at random.
        pixel: weight of the mean absolute error.
        perceptual: weight of the perceptual distance.
        distance: "lpips"; "pyramid", which needs no weights; or "auto", LPIPS where its
            weights are on this machine. The report and the result name the one used.
        discriminator: "unet", the published one, which needs thousands of steps; or "detail",
            which learns in dozens and pulls at a fixed share of the other losses.
        adversarial: weight of the adversarial loss, or with "detail" its share; 0 for no
            discriminator.
        discriminator_channels: width of the discriminator.
        discriminator_lr: its learning rate, constant; None for the restorer's.
        pattern: weight of the pattern that repeats all over a face (`losses.pattern`); 0 for none.
            Not of pictures and patches below 128 px.
        identity: weight of how far the person moves from the base's first guess, as a network of
            face recognition sees it (`identity_loss`); 0 for none. Patches are seen in their
            guess. Not of the codebook recipe, which makes no image.
        code: weight of the codes' cross-entropy (codebook).
        feature: weight of the features' distance from their codes (codebook).
        learned: share of the samples that are clean faces with learned damage, if there are any.
        precision: "float32", or the type that autocast computes in; "auto" takes bfloat16 where
            the device has it and the architecture gains by it (`settled`).
        adapter_rank: of low-rank adapters, trained in place of all weights; 0 trains the weights.
        checkpointing: recompute activations in the backward pass: slower, with less memory.
        held_back: share in [0, 0.5] of the pairs that is scored and not trained with.
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
    pattern: float = 0.0
    identity: float = 0.0
    code: float = 0.5
    feature: float = 1.0
    learned: float = 0.5
    precision: str = "float32"
    adapter_rank: int = 0
    checkpointing: bool = False
    held_back: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("objective", OBJECTIVES),
            ("distance", DISTANCES),
            ("discriminator", DISCRIMINATORS),
            ("schedule", SCHEDULES),
            ("precision", (AUTO, *PRECISIONS)),
        ):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name} must be one of {list(choices)}, got {value!r}.")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} must be in [{low:g}, {high:g}], got {value}.")
        if self.batch % self.micro_batch:
            raise InputError(
                f"micro_batch must divide batch, got {self.micro_batch} for {self.batch}. "
                "Choose a divisor."
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InputError(f"milestones must increase, got {list(self.milestones)}. Sort them.")
        if self.objective == REGRESSION and not self.pixel + self.perceptual + self.adversarial:
            raise InputError(
                "One of pixel, perceptual and adversarial must be above 0, got none. Raise one."
            )
        if self.discriminator == DETAIL and self.adversarial and not self.pixel + self.perceptual:
            raise InputError(
                "pixel or perceptual must be above 0 for the detail discriminator, which pulls at "
                "a share of them; got neither. Raise one, or choose the unet."
            )
        if self.objective == CODEBOOK and not self.code + self.feature:
            raise InputError("One of code and feature must be above 0, got neither. Raise one.")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "steps":
            return self.lr * self.gamma ** sum(step >= at for at in self.milestones)
        if self.schedule == "cosine":
            way = 0.5 * (1 - math.cos(math.pi * min(1.0, step / self.steps)))
            return self.lr + (self.lr_end - self.lr) * way
        return self.lr

    def critic_rate(self, step: int) -> float:
        """The learning rate of the discriminator at a step."""
        return self.rate(step) if self.discriminator_lr is None else self.discriminator_lr

    @property
    def micro_batches(self) -> int:
        """Micro-batches per step, over all processes."""
        return self.batch // self.micro_batch

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON stores them."""
        return {**asdict(self), "milestones": list(self.milestones), "betas": list(self.betas)}


_WEIGHTS = ("clip", "pixel", "perceptual", "adversarial", "pattern", "identity", "code", "feature")
_RANGES = (
    *((weight, 0, math.inf) for weight in _WEIGHTS),
    ("steps", 0, 10**7),
    ("batch", 1, 4096),
    ("micro_batch", 1, 4096),
    ("patch", 16, 4096),
    ("lr", 0, 1),
    ("lr_end", 0, 1),
    ("gamma", 0, 1),
    ("weight_decay", 0, 1),
    ("ema", 0, 0.99999),
    ("discriminator_channels", 4, 512),
    ("discriminator_lr", 0, 1),
    ("learned", 0, 1),
    ("adapter_rank", 0, 1024),
    ("held_back", 0, 0.5),
    ("seed", 0, 2**64 - 1),
)

PRESETS: dict[str, FinetuneSettings] = {
    "quick": FinetuneSettings(
        batch=2,
        micro_batch=2,
        lr=3e-4,
        lr_end=3e-5,
        discriminator=DETAIL,
        adversarial=0.4,
        discriminator_channels=32,
        discriminator_lr=1e-3,
        pattern=2.0,
        identity=2.0,
        ema=0.99,
        clip=1.0,
        precision=AUTO,
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
    "quick demo": FinetuneSettings(
        steps=200,
        lr=3e-4,
        lr_end=3e-5,
        batch=1,
        micro_batch=1,
        adversarial=0,
        ema=0.99,
        clip=1.0,
        precision=AUTO,
    ),
}
"""A quick recipe for small networks without a GPU, and those of Kuai et al., from section 4 and
their published configuration, in float32; the demonstration is the quick one cut short to minutes.

The quick ones train on whole faces: a NAFNet pools over all it is given, and what it learns from
patches does not hold for faces (Chu, Chen, Chen and Lu, "Improving Image Restoration by Revisiting
Global Information Aggregation", ECCV 2022)."""


def preset_for(restorer: Restorer) -> str:
    """The name of the preset that suits a restorer's architecture."""
    if restorer.architecture == "CodeFormer":
        return "CodeFormer (paper)"
    return "quick" if restorer.architecture == "NAFNet" else "SwinIR (paper)"


def adjusted(settings: FinetuneSettings, **changes: Any) -> FinetuneSettings:
    """A copy with some settings changed, and dependent ones scaled with them.

    The milestones scale with ``steps`` and ``lr_end`` with ``lr``; for a new ``batch`` the
    micro-batch becomes the largest one that divides it and needs no more memory. Values passed
    explicitly are never adjusted, but for the precision "auto", which is the preset's.
    """
    changes = {key: value for key, value in changes.items() if (key, value) != ("precision", AUTO)}
    along: dict[str, Any] = {}
    if "steps" in changes:
        scale = changes["steps"] / max(settings.steps, 1)
        along["milestones"] = tuple(sorted({round(at * scale) for at in settings.milestones}))
    if "lr" in changes and settings.lr:
        along["lr_end"] = settings.lr_end * changes["lr"] / settings.lr
    if "batch" in changes:
        fitting = range(1, settings.micro_batch + 1)
        along["micro_batch"] = max(n for n in fitting if changes["batch"] % n == 0)
    return replace(settings, **{**along, **changes})
