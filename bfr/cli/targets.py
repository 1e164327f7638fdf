"""The command ``targets``: sets of pseudo targets to tune a restorer with."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import CALLS, FREEDOM, HOLDS, PRECISIONS, PRIOR_PRESETS, SAMPLERS
from ..records import counted
from .arguments import (
    AUTO,
    EMBEDDED,
    add_detector,
    add_device,
    add_fidelity,
    add_min_size,
    add_photographs,
    add_score,
    count,
    find_weights,
    fraction,
    load_detector_of,
    number,
    pick_device,
)
from .report import DONE, SOME_FAILED, say, say_unread

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from ..pairs.build import BuildReport, PairSettings
    from ..prior.prior import Prior


def _number_or_auto(low: int, high: int) -> Callable[[str], float | None]:
    parse = number(low, high, int)

    def parse_or_auto(text: str) -> float | None:
        return None if text == AUTO else parse(text)

    parse_or_auto.__name__ = "number"
    return parse_or_auto


_step = number(0, 1000, int)
_step_or_auto = _number_or_auto(0, 1000)
_seed = number(0, 2**64 - 1, int)


def add_targets(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``targets``."""
    parser.set_defaults(command=targets)
    add = parser.add_argument
    add_photographs(parser)
    add("-o", "--out", type=Path, required=True, metavar="PAIRS", help="the set's folder")
    add_detector(parser)
    add_score(parser)
    add_min_size(parser)
    add(
        "--size",
        type=_number_or_auto(16, 4096),
        default=AUTO,
        help="the faces' side in pixels; auto is the restorer's own, or the prior's (%(default)s)",
    )
    guesses = parser.add_mutually_exclusive_group()
    guesses.add_argument(
        "--restorer",
        default=EMBEDDED,
        metavar="NAME|FILE",
        help="what makes the first guesses",
    )
    guesses.add_argument(
        "--guesses",
        type=Path,
        metavar="FOLDER",
        help="take first guesses from here instead: another tool's results for the same "
        "photographs under their own names, or for the faces in PAIRS/lq under theirs",
    )
    add_fidelity(parser)
    sampled = parser.add_mutually_exclusive_group()
    sampled.add_argument(
        "--prior", default=EMBEDDED, metavar="NAME|FILE|FOLDER", help="what samples targets"
    )
    sampled.add_argument(
        "--targets",
        type=Path,
        metavar="FOLDER",
        help="take targets from here instead, as --guesses takes guesses: pictures of the same "
        "photographs or faces made by any tool",
    )
    add(
        "--prior-size",
        type=number(16, 4096, int),
        metavar="SIZE",
        help="side in pixels of the prior's faces, for a checkpoint whose name does not tell it",
    )
    add(
        "--prior-preset",
        choices=(AUTO, *PRIOR_PRESETS),
        default=AUTO,
        help="how a checkpoint was made (auto)",
    )
    _add_guidance(add)
    add("--precision", choices=PRECISIONS, default="float32", help="of the prior (%(default)s)")
    add_device(parser)


def _add_guidance(add: Callable[..., object]) -> None:
    """How targets are sampled; the defaults are `Guidance`'s, and a test compares them."""
    add(
        "--freedom",
        type=fraction,
        default=FREEDOM,
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
        type=_number_or_auto(1, 512),
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
    add("--steps", type=_step, default=250, help="that start and stop count in (%(default)s)")
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
        type=_number_or_auto(0, 1000),
        default=AUTO,
        help="network calls per face, at most one per step; 0 is one per step from start, which "
        "ddpm needs; auto is 8, or fewer if start is (%(default)s)",
    )
    add("--eta", type=fraction, default=0.0, help="the noise that ddim adds (%(default)s)")
    add("--seed", type=_seed, default=0, help="other seeds, other details (%(default)s)")
    add("--batch-size", type=count, default=4, help="faces sampled at once (%(default)s)")


def targets(options: argparse.Namespace) -> int:
    """Makes or continues a set of pseudo targets."""
    from ..files.sources import find_sources

    sources = find_sources(options.paths, options.out)
    say_unread(options.paths, options.out)

    from ..pairs.build import build_pairs, paper_factor
    from ..restore.restorer import load_restorer
    from ..runtime.processes import launched_share

    share = launched_share(cpu=options.device == "cpu")
    device = pick_device((share.device if options.device == AUTO else None) or options.device)
    detector = load_detector_of(options, device)
    restorer = None
    if options.guesses is None:
        restorer = load_restorer(find_weights("restorer", options.restorer)).to(device)
    prior = None if options.targets is not None else _prior(options, device)
    report = build_pairs(
        sources,
        options.out,
        detector,
        restorer,
        prior,
        _settings(options, paper_factor(restorer), prior),
        guesses=options.guesses,
        targets=options.targets,
        share=share,
        say=say if share.count == 1 else lambda line: say(f"({share.rank + 1}) {line}"),
    )
    if share.rank == 0:
        _summarise(report, " by this process" if share.count > 1 else "")
    return SOME_FAILED if report.problems else DONE


def _prior(options: argparse.Namespace, device: torch.device) -> Prior:
    import torch

    from ..prior.prior import load_prior

    is_folder = Path(options.prior).is_dir() and options.prior != EMBEDDED
    prior_file = Path(options.prior) if is_folder else find_weights("prior", options.prior)
    told = {} if options.prior_size is None else {"size": options.prior_size}
    prior = load_prior(prior_file, preset=options.prior_preset, **told)
    prior.network.to(device, getattr(torch, options.precision))
    return prior


def _settings(options: argparse.Namespace, paper_factor: int, prior: Prior | None) -> PairSettings:
    from ..pairs.build import PairSettings
    from ..prior.guidance import Guidance

    given = {field.name: getattr(options, field.name) for field in fields(Guidance)}
    automatic = {name: given[name] or 0 for name in ("start", "stop", "factor")}
    if given["calls"] is None:
        automatic["calls"] = min(CALLS, automatic["start"] or CALLS)
    guidance = Guidance(**{**given, **automatic})
    if not guidance.soft and not guidance.factor:
        guidance = replace(guidance, factor=paper_factor)
    return PairSettings(
        score=options.score,
        min_size=options.min_size,
        size=options.size,
        fidelity=options.fidelity,
        sample=None if prior is None else guidance.settings(prior),
    )


def _summarise(report: BuildReport, by: str) -> None:
    pairs = report.pairs.pairs
    unfinished = sum(not pair.complete for pair in pairs)
    kept = len(report.pairs.kept)
    say(
        f"{counted(len(pairs), 'pair')} in {report.pairs.folder}: {kept} to train with, "
        f"{len(pairs) - kept - unfinished} rejected, {unfinished} unfinished. Sampled now{by}: "
        f"{counted(report.sampled, 'target')}; without a face: "
        f"{counted(len(report.faceless), 'photograph')}."
    )
    if report.problems:
        say(f"{counted(len(report.problems), 'thing')} failed; the lines above say why.")
