"""The command ``targets``: sets of pseudo targets to tune a restorer with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import AUTO, PRIOR_PRESETS
from ..records import counted
from .arguments import (
    EMBEDDED,
    add_detector,
    add_device,
    add_fidelity,
    add_min_size,
    add_photographs,
    add_precision,
    add_score,
    find_weights,
    load_detector_of,
    number,
    number_or_auto,
    pick_device,
    refuse_remote,
)
from .guidance import add_guidance, guidance_of
from .report import DONE, SOME_FAILED, say, say_unread

if TYPE_CHECKING:
    import torch

    from ..pairs.build import BuildReport
    from ..pairs.settings import PairSettings
    from ..prior.prior import Prior

_PATIENCE = 24 * 60.0  # minutes: one process may have far more faces to sample than another


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
        type=number_or_auto(16, 4096),
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
        help="side in pixels of the prior's faces, for a checkpoint whose name does not give it",
    )
    add(
        "--prior-preset",
        choices=(AUTO, *PRIOR_PRESETS),
        default=AUTO,
        help="how a checkpoint was made (auto)",
    )
    add_guidance(parser)
    add_precision(parser, "restorer and prior")
    add_device(parser)


def targets(options: argparse.Namespace) -> int:
    """Makes or continues a set of pseudo targets."""
    from ..files.sources import find_sources

    refuse_remote("targets", *options.paths, options.out)
    sources = find_sources(options.paths, options.out)
    say_unread(options.paths, options.out)

    from ..pairs.build import build_pairs
    from ..pairs.settings import paper_factor
    from ..restore.load import load_restorer
    from ..runtime.processes import launched_share

    share = launched_share(cpu=options.device == "cpu", patience=_PATIENCE)
    device = pick_device((share.device if options.device == AUTO else None) or options.device)
    detector = load_detector_of(options, device)
    restorer = None
    if options.guesses is None:
        file = find_weights("restorer", options.restorer)
        restorer = load_restorer(file, precision=options.precision).to(device)
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
    from ..prior.load import load_prior
    from ..runtime.precision import convert

    is_folder = Path(options.prior).is_dir() and options.prior != EMBEDDED
    prior_file = Path(options.prior) if is_folder else find_weights("prior", options.prior)
    told = {} if options.prior_size is None else {"size": options.prior_size}
    prior = load_prior(prior_file, preset=options.prior_preset, **told)
    convert(prior.network, options.precision, device)
    return prior


def _settings(options: argparse.Namespace, paper_factor: int, prior: Prior | None) -> PairSettings:
    from ..pairs.settings import PairSettings

    sample = None
    if prior is not None:
        sample = guidance_of(options, paper_factor).settings(prior)
    return PairSettings(
        score=options.score,
        min_size=options.min_size,
        size=options.size,
        fidelity=options.fidelity,
        sample=sample,
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
