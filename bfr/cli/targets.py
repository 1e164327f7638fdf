"""The command ``targets``: sets of pseudo targets to tune a restorer with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import AUTO, PRIOR_PRESETS
from ..files.places import to_path
from ..records import counted
from .arguments import (
    EMBEDDED,
    add_detector,
    add_device,
    add_fidelity,
    add_min_size,
    add_photographs,
    add_precision,
    add_ray,
    add_score,
    number,
    number_or_auto,
    pick_device,
    refuse_remote,
)
from .guidance import add_guidance
from .pairing import load_pairing
from .report import DONE, SOME_FAILED, say, say_unread

if TYPE_CHECKING:
    from ..pairs.run import BuildReport

_PATIENCE = 24 * 60.0  # minutes: one process may have far more faces to sample than another


def add_targets(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``targets``."""
    parser.set_defaults(command=targets)
    add = parser.add_argument
    add_photographs(parser)
    add("-o", "--out", type=to_path, required=True, metavar="PAIRS", help="the set's folder")
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
    add_ray(parser)


def targets(options: argparse.Namespace) -> int:
    """Makes or continues a set of pseudo targets."""
    from ..files.sources import find_sources

    if options.ray is None:
        refuse_remote("targets", *options.paths, options.out)
    sources = find_sources(options.paths, options.out)
    say_unread(options.paths, options.out)
    if options.ray is not None:
        from .shared_targets import share_targets

        report = share_targets(options, sources)
        _summarise(report, "")
        return SOME_FAILED if report.problems else DONE

    from ..pairs.build import build_pairs
    from ..runtime.processes import launched_share

    share = launched_share(cpu=options.device == "cpu", patience=_PATIENCE)
    device = pick_device((share.device if options.device == AUTO else None) or options.device)
    report = build_pairs(
        sources,
        options.out,
        *load_pairing(options, device),
        guesses=options.guesses,
        targets=options.targets,
        share=share,
        say=say if share.count == 1 else lambda line: say(f"({share.rank + 1}) {line}"),
    )
    if share.rank == 0:
        _summarise(report, " by this process" if share.count > 1 else "")
    return SOME_FAILED if report.problems else DONE


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
