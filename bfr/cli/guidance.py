"""The options that say how pseudo targets are sampled, and the guidance that they mean."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ..choices import CALLS, HOLDS, PAIRS_FREEDOM, SAMPLERS
from .arguments import AUTO, count, fraction, number, number_or_auto

if TYPE_CHECKING:
    from ..prior.guidance import Guidance

_step = number(0, 1000, int)
_step_or_auto = number_or_auto(0, 1000)
_seed = number(0, 2**64 - 1, int)


def add_guidance(parser: argparse.ArgumentParser) -> None:
    """Adds the options of sampling; the defaults are `Guidance`'s, but freedom is that of pairs."""
    add = parser.add_argument
    add(
        "--freedom",
        type=fraction,
        default=PAIRS_FREEDOM,
        help="0: exactly this face, 1: a new face like it; moves start, factor and error together "
        "where they are auto (%(default)s)",
    )
    add(
        "--detail",
        type=number(-1, 1),
        default=0.0,
        help="fine detail: 0 the prior's own, higher crisper, lower softer (%(default)s)",
    )
    add(
        "--hold",
        choices=HOLDS,
        default=AUTO,
        help="soft fades with the noise, paper replaces the low frequencies from start to stop; "
        "auto is paper where start or stop is given, else soft (%(default)s)",
    )
    add(
        "--start",
        type=_step_or_auto,
        default=AUTO,
        help="how far the guess is dissolved into noise; higher repaints more (%(default)s)",
    )
    add(
        "--stop",
        type=_step_or_auto,
        default=AUTO,
        help="for the paper's hold: where the guess is let go, below start; lower holds for "
        "longer (%(default)s)",
    )
    add(
        "--factor",
        type=number_or_auto(1, 512),
        default=AUTO,
        help="how coarse the held shapes are; higher: more freedom, less likeness; auto follows "
        "freedom, or is the paper's: 16 after SwinIR, 8 after others (%(default)s)",
    )
    add(
        "--error",
        type=number(0, 100),
        default=0.0,
        help="for the soft hold: how wrong the guess may be, in [-1, 1] at 512 pixels; 0 follows "
        "freedom (%(default)s)",
    )
    add("--strength", type=fraction, default=1.0, help="how firmly it holds (%(default)s)")
    add(
        "--steps",
        type=_step,
        default=250,
        help="the steps that start and stop count in (%(default)s)",
    )
    add(
        "--suit-prior",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start, stop, factor and error are meant for faces of 512 pixels: adapt them to a "
        "prior of another size, or take them as they are (suit)",
    )
    add("--sampler", choices=SAMPLERS, default="dpm-solver++", help="(%(default)s)")
    add(
        "--calls",
        type=number_or_auto(0, 1000),
        default=AUTO,
        help="network calls per face, at most one per step; 0 is one per step from start, which "
        "ddpm needs; auto is 8, or fewer if start is (%(default)s)",
    )
    add("--eta", type=fraction, default=0.0, help="the noise that ddim adds (%(default)s)")
    add("--seed", type=_seed, default=0, help="other seeds, other details (%(default)s)")
    add("--batch-size", type=count, default=4, help="faces sampled at once (%(default)s)")


def guidance_of(options: argparse.Namespace, paper_factor: int) -> Guidance:
    """The guidance that the options describe.

    Args:
        options: of the command.
        paper_factor: the low-pass factor of the paper's hold, where none is given.
    """
    from ..prior.guidance import Guidance

    given = {field.name: getattr(options, field.name) for field in fields(Guidance)}
    automatic = {name: given[name] or 0 for name in ("start", "stop", "factor")}
    if given["calls"] is None:
        automatic["calls"] = min(CALLS, automatic["start"] or CALLS)
    guidance = Guidance(**{**given, **automatic})
    if not guidance.soft and not guidance.factor:
        guidance = replace(guidance, factor=paper_factor)
    return guidance
