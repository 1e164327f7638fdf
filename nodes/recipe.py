"""The inputs that say how a restorer is fine-tuned, and the settings that they stand for."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..bfr.choices import DISTANCES, PRECISIONS
from ..bfr.errors import InputError
from ..bfr.finetune.settings import PRESETS, FinetuneSettings, adjusted, preset_for
from ..bfr.restore.restorer import Restorer
from . import schemas

AUTO = "auto"
_PRESETS_OWN = -1.0  # of a weight, for which 0 is a value
_WEIGHTS = ("pixel", "perceptual", "adversarial", "identity", "ema")  # below 0: the preset's
_NUMBERS = ("steps", "learning_rate", "batch", "micro_batch", "patch")  # 0: the preset's
_NAMES = {"learning_rate": "lr"}  # inputs that the core calls something else


def make_settings(restorer: Restorer, *, preset: str, **inputs: Any) -> FinetuneSettings:
    """The preset's settings, changed by the node's other inputs of the recipe.

    Raises:
        InputError: if there is no such preset, or a value is out of its range.
    """
    if preset not in (AUTO, *PRESETS):
        raise InputError(
            f"preset must be {AUTO} or one of {list(PRESETS)}, got {preset!r}. Choose one."
        )
    changes: dict[str, Any] = {}
    for id, value in inputs.items():
        left_to_preset = value < 0 if id in _WEIGHTS else id in _NUMBERS and not value
        if not left_to_preset:
            changes[_NAMES.get(id, id)] = None if id == "patch" and value < 0 else value
    return adjusted(PRESETS[preset_for(restorer) if preset == AUTO else preset], **changes)


def own_weight(
    id: str, display_name: str, tooltip: str, high: float = 10.0, optional: bool = False
) -> io.Float.Input:
    """The weight of a loss, or the preset's."""
    return io.Float.Input(
        id,
        display_name=display_name,
        default=_PRESETS_OWN,
        min=_PRESETS_OWN,
        max=high,
        step=0.01,
        round=0.00001,
        tooltip=f"{tooltip} -1: the preset's.",
        optional=optional,
        advanced=True,
    )


def _own_number(
    id: str, display_name: str, high: int, tooltip: str, *, low: int = 0, advanced: bool = True
) -> io.Int.Input:
    return io.Int.Input(
        id,
        display_name=display_name,
        default=0,
        min=low,
        max=high,
        tooltip=f"{tooltip} 0: the preset's.",
        advanced=advanced or None,
    )


def recipe_inputs() -> list[io.Input]:
    """The inputs of fine-tuning: what a beginner sees first, then the advanced."""
    return [
        io.Combo.Input(
            "preset",
            display_name="preset",
            options=[AUTO, *PRESETS],
            default=AUTO,
            tooltip="The recipe. auto: the one that suits the restorer. quick: minutes to an hour "
            "for the embedded restorer without a GPU. SwinIR (paper) and CodeFormer (paper): the "
            "published recipes, for a day on a GPU; the first also suits GFPGAN and RestoreFormer. "
            "quick demo: the quick one cut to minutes, for a first try.",
        ),
        _own_number(
            "steps",
            "steps",
            1_000_000,
            "How long it trains. A few hundred change the restorer visibly; twice the steps take "
            "twice the time.",
            advanced=False,
        ),
        schemas.seed_input("Sets the order of the pairs, their patches and mirroring."),
        io.Float.Input(
            "learning_rate",
            display_name="learning rate",
            default=0.0,
            min=0.0,
            max=0.01,
            step=0.00001,
            round=0.0000001,
            tooltip="The size of a step at the beginning. Higher learns faster and forgets more of "
            "what the restorer knows. 0: the preset's.",
            advanced=True,
        ),
        _own_number("batch", "batch size", 4096, "Pairs in each step."),
        _own_number(
            "micro_batch",
            "micro-batch",
            4096,
            "Pairs that go through the network at once; must divide the batch size. Fewer need "
            "less memory and give the same result.",
        ),
        _own_number(
            "patch",
            "patch",
            4096,
            "Side in pixels of the squares cut from the faces. Smaller is quicker. -1: whole "
            "faces, as GFPGAN, RestoreFormer and CodeFormer need.",
            low=-1,
        ),
        io.Combo.Input(
            "distance",
            display_name="perceptual distance",
            options=list(DISTANCES),
            default=DISTANCES[0],
            tooltip="How the distance from the pseudo target is measured. lpips: the paper's; "
            "needs the lpips package and its VGG weights on this machine. pyramid: needs neither. "
            "auto: lpips where it is installed; the report names the one used.",
            advanced=True,
        ),
        own_weight("pixel", "pixel weight", "Weight of the mean absolute error."),
        own_weight("perceptual", "perceptual weight", "Weight of the perceptual distance."),
        own_weight(
            "adversarial",
            "adversarial weight",
            "Weight of a discriminator that tells restored faces from clean ones; in the quick "
            "recipe, its pull as a share of the other two. Higher: crisper, but less faithful. 0: "
            "none, which takes less time and memory.",
        ),
        own_weight(
            "ema",
            "moving average",
            "Decay of the moving average of the weights, which is scored and kept. 0: none.",
            high=0.9999,
        ),
        io.Combo.Input(
            "precision",
            display_name="precision",
            options=[*PRECISIONS, AUTO],
            default=AUTO,
            tooltip="The numbers that the networks compute in. float32 is exact. bfloat16 and "
            "float16 are quicker and take less memory where the device has instructions for them. "
            "auto: bfloat16 where that is so and the restorer gains by it, else float32; the "
            "paper's recipes stay in float32.",
            advanced=True,
        ),
        io.Boolean.Input(
            "checkpointing",
            display_name="gradient checkpointing",
            default=False,
            tooltip="Needs much less memory and about a third more time, for the same result.",
            advanced=True,
        ),
        schemas.slider(
            "held_back",
            "held-back share",
            0.1,
            "The share of the pairs that is not trained with but scored: it shows whether the "
            "restorer becomes better.",
            high=0.5,
            advanced=True,
        ),
    ]
