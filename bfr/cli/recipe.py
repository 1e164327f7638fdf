"""The options that say how a restorer is tuned, and the settings that they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..choices import DISTANCES, PRECISIONS, RECIPES, SCHEDULES
from .arguments import AUTO, fraction, number

if TYPE_CHECKING:
    from ..finetune.settings import FinetuneSettings
    from ..restore.restorer import Restorer

RECIPE_WORDS = {name.split()[0].lower(): name for name in RECIPES}
WHOLE = "whole"

_step = number(0, 10**7, int)
_pairs = number(1, 4096, int)
_weight = number(0, 1e6)


def _side(text: str) -> int | None:
    return None if text == WHOLE else int(number(16, 4096, int)(text))


_side.__name__ = "number"  # argparse's "invalid number value: 'x'"

_RECIPE: Sequence[tuple[str, Callable[[str], Any], str]] = (
    ("batch", _pairs, "pairs per step, over all processes"),
    ("micro-batch", _pairs, "pairs at once, dividing the batch; fewer need less memory"),
    (
        "patch",
        _side,
        "side in pixels of the squares cut from the pairs, or whole, as networks of one size need",
    ),
    ("lr", number(0, 1), "learning rate; the rate at the end scales with it"),
    ("weight-decay", number(0, 1), "weight decay of the optimizer"),
    ("clip", _weight, "largest norm of the gradient, 0 for no limit"),
    ("ema", number(0, 0.99999), "decay of the moving average that is kept, 0 for none"),
    ("pixel", _weight, "weight of the mean error"),
    ("perceptual", _weight, "weight of the perceptual distance"),
    (
        "adversarial",
        _weight,
        "weight of the discriminator (quick: share of the gradient), 0 for none",
    ),
    ("pattern", _weight, "weight of patterns that repeat all over a face, 0 for none"),
    ("identity", _weight, "weight of how far the person moves from the first guess, 0 for none"),
    ("code", _weight, "weight of the codes' cross-entropy, for CodeFormer"),
    ("feature", _weight, "weight of the features' distance from the codes, for CodeFormer"),
    ("learned", fraction, "share of the samples that are clean faces with learned damage"),
    (
        "adapter-rank",
        number(0, 1024, int),
        "train low-rank adapters of this rank instead of all weights, for large restorers; 0 for "
        "none",
    ),
    ("held-back", number(0, 0.5), "share of the pairs that is scored and not trained with"),
    ("seed", number(0, 2**64 - 1, int), "another seed gives another order"),
)
"""Settings that stay as in the preset unless they are given."""


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The options of the recipe, which change its preset."""
    add = parser.add_argument
    add(
        "--preset",
        choices=(AUTO, *RECIPE_WORDS),
        default=AUTO,
        help="the recipe: quick suits small networks without a GPU, swinir and codeformer are the "
        "paper's; auto suits the restorer (%(default)s)",
    )
    add("--steps", type=_step, help="how long; milestones scale with it (the preset's)")
    for name, kind, help in _RECIPE:
        add(f"--{name}", type=kind, default=argparse.SUPPRESS, help=f"{help} (the preset's)")
    add(
        "--schedule",
        choices=SCHEDULES,
        default=argparse.SUPPRESS,
        help="how the learning rate changes (the preset's)",
    )
    add(
        "--distance",
        choices=DISTANCES,
        default=AUTO,
        help="the perceptual distance; auto is lpips where its weights are, else pyramid, which "
        "needs none (%(default)s)",
    )
    add("--flips", action=argparse.BooleanOptionalAction, default=True, help="mirror pairs (flips)")
    add(
        "--precision",
        choices=(AUTO, *PRECISIONS),
        default=AUTO,
        help="what the networks compute in; auto is bfloat16 where the device has instructions "
        "for it and the restorer gains by it, but float32 in the paper's recipes (%(default)s)",
    )
    add(
        "--checkpointing",
        action="store_true",
        help="need much less memory and a third more time",
    )


def recipe_of(options: argparse.Namespace, restorer: Restorer) -> FinetuneSettings:
    """The preset's, with the changes that the options ask for."""
    from ..finetune.settings import PRESETS, adjusted, preset_for

    name = preset_for(restorer) if options.preset == AUTO else RECIPE_WORDS[options.preset]
    given = {key.replace("-", "_") for key, _, _ in _RECIPE} | {"schedule"}
    changes = {key: value for key, value in vars(options).items() if key in given}
    if options.steps is not None:
        changes["steps"] = options.steps
    return adjusted(
        PRESETS[name],
        distance=options.distance,
        flips=options.flips,
        precision=options.precision,
        checkpointing=options.checkpointing,
        **changes,
    )
