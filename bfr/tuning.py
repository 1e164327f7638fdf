"""The command line's commands ``targets`` and ``review``: sets to tune a restorer with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import models
from .models import DONE, SOME_FAILED, say
from .options import count, fraction, length, number, pick_device, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .pairs import Pair, PairSet
    from .prior import Prior
    from .targets import BuildReport, PairSettings

AUTO = "auto"
SAMPLERS = ("ddpm", "ddim", "dpm-solver++", "unipc")
PRESETS = ("guided-diffusion", "guided-diffusion, new attention order", "improved-diffusion")
PRECISIONS = ("float32", "bfloat16", "float16")
SHOWN = ("all", "kept", "rejected", "flagged")


def _number_or_auto(low: int, high: int) -> Callable[[str], float | None]:
    parse = number(low, high, int)

    def parse_or_auto(text: str) -> float | None:
        return None if text == AUTO else parse(text)

    parse_or_auto.__name__ = "number"
    return parse_or_auto


_step = number(0, 1000, int)
_seed = number(0, 2**64 - 1, int)


def add_targets(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``targets``."""
    parser.set_defaults(command=targets)
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="photographs, or folders of them")
    add("-o", "--out", type=Path, required=True, metavar="PAIRS", help="the set's folder")
    add("--detector", default=models.EMBEDDED, metavar="NAME|FILE", help="what finds the faces")
    add("--score", type=fraction, default=0.5, help="a face's least confidence (%(default)s)")
    add("--min-size", type=length, default=0.0, help="a face's least size in pixels (%(default)s)")
    add(
        "--size",
        type=_number_or_auto(16, 4096),
        default=AUTO,
        help="the faces' side in pixels; auto is the restorer's own, or the prior's (%(default)s)",
    )
    guesses = parser.add_mutually_exclusive_group()
    guesses.add_argument(
        "--restorer",
        default=models.EMBEDDED,
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
    add(
        "--fidelity",
        type=fraction,
        default=0.5,
        help="0 looks best, 1 is closest to the input; CodeFormer has it (%(default)s)",
    )
    add("--prior", default=models.EMBEDDED, metavar="NAME|FILE|FOLDER", help="what samples targets")
    add(
        "--prior-size",
        type=number(16, 4096, int),
        metavar="SIZE",
        help="side in pixels of the prior's faces, for a checkpoint whose name does not tell it",
    )
    add(
        "--prior-preset",
        choices=(AUTO, *PRESETS),
        default=AUTO,
        help="how a checkpoint was made (auto)",
    )
    add(
        "--start",
        type=_step,
        default=150,
        help="how far the guess is dissolved into noise; higher: more of it is painted anew "
        "(%(default)s)",
    )
    add(
        "--stop",
        type=_step,
        default=90,
        help="where the guess is let go, below start; lower: it holds for longer (%(default)s)",
    )
    add(
        "--factor",
        type=_number_or_auto(1, 512),
        default=AUTO,
        help="how coarse the shapes are that the guess holds; higher: more freedom, less "
        "likeness; auto is 16 after SwinIR, 8 after others (%(default)s)",
    )
    add("--strength", type=fraction, default=1.0, help="how firmly they hold (%(default)s)")
    add("--steps", type=_step, default=250, help="that start and stop count in (%(default)s)")
    add(
        "--suit-prior",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start, stop and factor are meant for faces of 512 pixels, as in the paper: make "
        "them suit a prior of another size, or take them as they are (suit)",
    )
    add("--sampler", choices=SAMPLERS, default="ddpm", help="(%(default)s)")
    add(
        "--calls",
        type=number(2, 1000, int),
        help="network calls a face; fewer are faster, best with a sampler other than ddpm "
        "(one for each step from start)",
    )
    add("--eta", type=fraction, default=0.0, help="the noise that ddim adds (%(default)s)")
    add("--seed", type=_seed, default=0, help="other seeds, other details (%(default)s)")
    add("--batch-size", type=count, default=4, help="faces sampled at once (%(default)s)")
    add("--precision", choices=PRECISIONS, default="float32", help="of the prior (%(default)s)")
    add("--device", default=AUTO, help="auto, cpu, cuda, cuda:1, mps (%(default)s)")


def targets(options: argparse.Namespace) -> int:
    """Makes or continues a set of pseudo targets."""
    from . import batch

    sources = batch.find_sources(options.paths, options.out)

    import torch

    from .prior import load_prior
    from .restorer import load_restorer
    from .retinaface import load_detector
    from .share import launched_share
    from .targets import build_pairs, paper_factor

    share = launched_share(cpu=options.device == "cpu")
    device = pick_device((share.device if options.device == AUTO else None) or options.device)
    detector = load_detector(models.find_weights("detector", options.detector)).to(device)
    restorer = None
    if options.guesses is None:
        restorer = load_restorer(models.find_weights("restorer", options.restorer)).to(device)
    is_folder = Path(options.prior).is_dir() and options.prior != models.EMBEDDED
    prior_file = Path(options.prior) if is_folder else models.find_weights("prior", options.prior)
    told = {} if options.prior_size is None else {"size": options.prior_size}
    prior = load_prior(prior_file, preset=options.prior_preset, **told)
    prior.network.to(device, getattr(torch, options.precision))
    report = build_pairs(
        sources,
        options.out,
        detector,
        restorer,
        prior,
        _settings(options, options.factor or paper_factor(restorer), prior),
        guesses=options.guesses,
        share=share,
        say=say if share.count == 1 else lambda line: say(f"({share.rank + 1}) {line}"),
    )
    if share.rank == 0:
        _summarise(report, " by this process" if share.count > 1 else "")
    return SOME_FAILED if report.problems else DONE


def _settings(options: argparse.Namespace, factor: int, prior: Prior) -> PairSettings:
    from .consistency import Constraint
    from .sample import SampleSettings, for_prior
    from .targets import PairSettings

    sample = SampleSettings(
        Constraint(factor, options.strength, options.start, options.stop),
        steps=options.steps,
        sampler=options.sampler,
        calls=options.calls,
        eta=options.eta,
        seed=options.seed,
        batch_size=options.batch_size,
    )
    return PairSettings(
        score=options.score,
        min_size=options.min_size,
        size=options.size,
        fidelity=options.fidelity,
        sample=for_prior(sample, prior) if options.suit_prior else sample,
    )


def _summarise(report: BuildReport, by: str) -> None:
    pairs = report.pairs.pairs
    unfinished = sum(not pair.complete for pair in pairs)
    kept = len(report.pairs.kept)
    say(
        f"{len(pairs)} pairs in {report.pairs.folder}: {kept} to train with, "
        f"{len(pairs) - kept - unfinished} rejected, {unfinished} unfinished. Now "
        f"{report.sampled} targets were sampled{by}; {len(report.faceless)} photographs show no "
        "face."
    )
    if report.problems:
        say(f"{len(report.problems)} things failed; the lines above say why.")


def add_review(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``review``."""
    parser.set_defaults(command=review)
    add = parser.add_argument
    add("pairs", type=Path, metavar="PAIRS", help="the set's folder")
    add("--sheet", type=Path, metavar="FILE", help="draw the pairs into FILE, FILE-2 and so on")
    add("--show", choices=SHOWN, default="all", help="which to draw and list (%(default)s)")
    names = "by name or number, or as 3-7"
    add("--reject", nargs="+", default=[], metavar="PAIR", help=f"leave pairs out, {names}")
    add("--keep", nargs="+", default=[], metavar="PAIR", help=f"take pairs in again, {names}")
    add("--reject-flagged", action="store_true", help="leave out all that stand out")
    add("--detector", default=models.EMBEDDED, metavar="NAME|FILE", help="what finds the faces")
    add("--device", default=AUTO, help="auto, cpu, cuda, cuda:1, mps (%(default)s)")


def review(options: argparse.Namespace) -> int:
    """Flags what stands out in a set, rejects pairs or takes them in again, and draws them."""
    from .pairs import read_pairs
    from .retinaface import load_detector
    from .review import check_pairs, mark_pairs

    read_pairs(options.pairs)  # tells a wrong folder before anything is loaded
    device = pick_device(options.device)
    detector = load_detector(models.find_weights("detector", options.detector)).to(device)
    check_pairs(options.pairs, detector)
    pairs = mark_pairs(
        options.pairs,
        reject=options.reject,
        keep=options.keep,
        reject_flagged=options.reject_flagged,
    )
    shown = [pair for pair in pairs.pairs if _is_shown(pair, options.show)]
    for place, pair in enumerate(pairs.pairs, 1):
        if pair in shown and (pair.flags or pair.status != "kept" or not pair.complete):
            state = pair.status if pair.complete else "unfinished"
            remarks = pair.reason if pair.reason else ", ".join(pair.flags)
            tell(f"{place}: {pair.name}: {state}{f' ({remarks})' if remarks else ''}")
    if options.sheet is not None:
        _draw(pairs, shown, options.sheet)
    flagged = sum(bool(pair.flags) for pair in pairs.pairs)
    say(f"{len(pairs.pairs)} pairs: {len(pairs.kept)} to train with, {flagged} flagged.")
    return DONE


def _is_shown(pair: Pair, which: str) -> bool:
    return which == "all" or which == pair.status or (which == "flagged" and bool(pair.flags))


def _draw(pairs: PairSet, shown: Sequence[Pair], path: Path) -> None:
    from .images import Photo, write_photo
    from .review import PAIRS_A_SHEET, contact_sheet

    shown = [pair for pair in shown if pair.complete]
    if not shown:
        say(f"There is no such pair to draw into {path}.")
    for page, start in enumerate(range(0, len(shown), PAIRS_A_SHEET), 1):
        file = path if page == 1 else path.with_stem(f"{path.stem}-{page}")
        write_photo(file, Photo(contact_sheet(pairs, shown[start : start + PAIRS_A_SHEET])))
        tell(file)
