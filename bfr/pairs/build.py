"""Pseudo-target sets: detect, align, guess and sample, each only where it is not done yet.

The stages run over all photographs one after the other, with the pairs folder between them: the
crops are read from disk for the guesses, and the guesses for the targets. So a set that was
interrupted ends up the same as one that was not, and faces of all photographs share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageError, InputError
from ..faces.retinaface import Detector
from ..files.sources import Source
from ..image.tensors import check_images
from ..prior.constraint import Constraint
from ..prior.prior import Prior
from ..prior.sample import sample_targets
from ..prior.settings import SampleSettings, check_prior, fingerprint, for_prior
from ..records import OnStep
from ..restore.restorer import Restorer
from ..runtime.processes import Share
from ..runtime.progress import SCALE, Progress
from .crops import FOUND, Run, find_faces, identify, take_crops
from .folder import KEPT, Pair, PairSet, in_order, pair_seed, read_image, same_parameters
from .guesses import Guesses, GuessFolder, from_folder, from_restorer, from_tensors
from .writer import PairWriter

_GUESSED = SCALE // 10  # where the guesses end, of all the progress


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """How `build_pairs` makes a set.

    Attributes:
        score: least confidence in [0, 1] of a face.
        min_size: least longer box side in pixels of a face.
        size: side in pixels of the crops; None for the restorer's own size, else the prior's.
        fidelity: of a restorer that has it: 0 (best looking) to 1 (closest to the input).
        batch_size: faces that go through the restorer at once.
        sample: how targets are sampled; its seed is the set's. None is the paper's way, with
            the restorer's `paper_factor`, made to suit the prior (`for_prior`).
    """

    score: float = 0.5
    min_size: float = 0.0
    size: int | None = None
    fidelity: float = 0.5
    batch_size: int = 8
    sample: SampleSettings | None = None


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What `build_pairs` did; of several processes, this one's part.

    Attributes:
        pairs: the whole set.
        searched: photographs in which faces were looked for.
        guessed: guesses made.
        sampled: targets sampled.
        removed: pairs deleted because their face is no longer in its photograph.
        faceless: photographs without a face.
        duplicates: photographs that are the same as another, and the other.
        problems: what failed, and why.
    """

    pairs: PairSet
    searched: int
    guessed: int
    sampled: int
    removed: int
    faceless: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]
    problems: tuple[tuple[str, str], ...]


def paper_factor(restorer: Restorer | None) -> int:
    """The low-pass factor of the paper: 16 after SwinIR, 8 after any other restorer."""
    return 16 if restorer is not None and restorer.architecture == "SwinIR" else 8


def build_pairs(
    sources: Sequence[Source],
    out: Path,
    detector: Detector,
    restorer: Restorer | None,
    prior: Prior,
    settings: PairSettings | None = None,
    *,
    guesses: Path | None = None,
    share: Share | None = None,
    say: Callable[[str], None] | None = None,
    on_step: OnStep | None = None,
) -> BuildReport:
    """Makes or continues a set of pseudo targets from photographs.

    Only what is missing, or whose parameters or inputs have changed, is made. A photograph that
    fails is told and skipped. Whatever stops the work, what is done is kept.

    Args:
        sources: the photographs (`find_sources`).
        out: the pairs folder; made if missing. Pairs of other photographs in it stay.
        detector: of `load_detector`.
        restorer: what makes the first guesses; None if they come from ``guesses``.
        prior: what samples the targets.
        settings: None for the defaults.
        guesses: a folder of guesses from elsewhere (`GuessFolder`).
        share: this process's part of the work, the same work in all of them; None for all.
        say: takes lines of progress, with the remaining time.
        on_step: progress over all stages; raising from it stops the work.

    Raises:
        InputError: if settings are out of range, or not one of restorer and guesses came.
        OutputError: if the folder cannot be written to, or the disk is full.
        WeightsError: if a network gives NaN.
    """
    settings, sample = _checked(settings, restorer, prior)
    if (restorer is None) == (guesses is None):
        raise InputError("The guesses come from a restorer or from a folder; give one of the two.")
    size = settings.size or (restorer and restorer.size) or prior.size
    outside = GuessFolder(guesses, sources) if guesses is not None else None
    with PairWriter(out, share) as writer:
        run = Run(writer, Progress(say, on_step))
        photographs = identify(run, sources)
        pairs = find_faces(run, photographs, detector, settings.score, settings.min_size, size)
        if outside is not None:
            made = from_folder(outside, writer.photographs, size)
        else:
            assert restorer is not None
            made = from_restorer(out, restorer, settings.fidelity, settings.batch_size)
        _finish(run, pairs, made, prior, sample)
    return _report(run)


def build_pairs_from_crops(
    crops: Tensor,
    out: Path,
    restorer: Restorer | None,
    prior: Prior,
    settings: PairSettings | None = None,
    *,
    names: Sequence[str] | None = None,
    guesses: Tensor | None = None,
    detector: Detector | None = None,
    share: Share | None = None,
    say: Callable[[str], None] | None = None,
    on_step: OnStep | None = None,
) -> BuildReport:
    """Makes or continues a set of pseudo targets from faces that are aligned already.

    Args:
        crops: N×3×S×S RGB in [0, 1].
        out: the pairs folder.
        restorer: what makes the first guesses; None if they come in ``guesses``.
        prior: what samples the targets.
        settings: None for the defaults; the size is the crops'.
        names: what to call each crop's pair; None for "crop 1" and so on.
        guesses: N×3×S×S RGB in [0, 1] from elsewhere.
        detector: finds the crops that show no face, which are told and left out; None leaves
            out none.
        share, say, on_step: as of `build_pairs`.

    Raises:
        InputError: if tensors or settings are out of range or do not fit each other.
        OutputError: if the folder cannot be written to, or the disk is full.
    """
    settings, sample = _checked(settings, restorer, prior)
    if (restorer is None) == (guesses is None):
        raise InputError("The guesses come from a restorer or as images; give one of the two.")
    check_images(crops, "crops")
    if crops.shape[2] != crops.shape[3]:
        raise InputError(f"Face crops must be square, and {tuple(crops.shape)} came. Align them.")
    names = names or [f"crop {number + 1:04d}" for number in range(len(crops))]
    if len(names) != len(crops):
        raise InputError(f"{len(crops)} crops need as many names, and {len(names)} came.")
    if guesses is not None:
        check_images(guesses, "guesses")
        if guesses.shape != crops.shape:
            raise InputError(
                f"Each crop needs a guess of its size, and {tuple(crops.shape)} crops and "
                f"{tuple(guesses.shape)} guesses came."
            )
    with PairWriter(out, share) as writer:
        run = Run(writer, Progress(say, on_step))
        taken = take_crops(run, crops, names, detector, settings.score)
        if guesses is not None:
            made = from_tensors(guesses, taken)
        else:
            assert restorer is not None
            made = from_restorer(out, restorer, settings.fidelity, settings.batch_size)
        _finish(run, [writer.pairs[name] for name in taken], made, prior, sample)
    return _report(run)


def _checked(
    settings: PairSettings | None, restorer: Restorer | None, prior: Prior
) -> tuple[PairSettings, SampleSettings]:
    """The settings and how targets are sampled, refused before any work if they cannot be."""
    settings = settings or PairSettings()
    sample = settings.sample
    if sample is None:
        paper = SampleSettings(Constraint(factor=paper_factor(restorer)))
        sample = for_prior(paper, prior)
    check_prior(prior, sample)
    for name, value in (("score", settings.score), ("fidelity", settings.fidelity)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie in [0, 1], and {value} came.")
    if settings.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, and {settings.batch_size} came.")
    if settings.size is not None and settings.size < 16:
        raise InputError(f"The crop size must be at least 16 pixels, not {settings.size}.")
    return settings, sample


def _report(run: Run) -> BuildReport:
    pairs = PairSet(run.writer.folder, tuple(in_order(run.writer.pairs.values())))
    return BuildReport(
        pairs=pairs,
        searched=run.searched,
        guessed=run.guessed,
        sampled=run.sampled,
        removed=run.removed,
        faceless=tuple(run.faceless),
        duplicates=tuple(run.duplicates),
        problems=tuple(run.problems),
    )


def _finish(
    run: Run, pairs: Sequence[Pair], guesses: Guesses, prior: Prior, sample: SampleSettings
) -> None:
    """Guesses and samples what is missing or out of date; what was rejected by hand is left."""
    _make_guesses(run, [pair for pair in pairs if not pair.settled], guesses)
    current = [run.writer.pairs[pair.name] for pair in pairs]
    _sample_targets(run, [pair for pair in current if not pair.settled], prior, sample)


def _make_guesses(run: Run, pairs: Sequence[Pair], guesses: Guesses) -> None:
    writer = run.writer
    stale: list[tuple[Pair, dict[str, Any]]] = []
    for pair in writer.share.of(pairs):
        try:
            wanted = {"lq": pair.sha256["lq"], **guesses.parameters(pair)}
        except InputError as error:
            run.fail(pair.name, error)
            continue
        if not (same_parameters(pair.guess, wanted) and writer.has_image(pair, "guess")):
            stale.append((pair, wanted))
    run.progress.begin("guesses made", len(stale), (FOUND, _GUESSED))
    for start in range(0, len(stale), guesses.at_once):
        part = stale[start : start + guesses.at_once]
        batch = writer.forget([pair for pair, _ in part], "guess")
        try:
            images = guesses.make(batch)
        except (ImageError, InputError) as error:
            for pair in batch:
                run.fail(pair.name, error)
            continue
        writer.put(
            replace(writer.write_image(pair, "guess", images[i : i + 1]), guess=wanted)
            for i, (pair, (_, wanted)) in enumerate(zip(batch, part, strict=True))
        )
        run.guessed += len(batch)
        run.progress.tell(start + len(batch))
    writer.sync()


def _sample_targets(run: Run, pairs: Sequence[Pair], prior: Prior, sample: SampleSettings) -> None:
    writer, parameters = run.writer, fingerprint(prior, sample)

    def wanted(pair: Pair) -> dict[str, Any]:
        seed = pair_seed(sample.seed, pair.source_sha256, pair.face)
        return {"guess": pair.sha256["guess"], "seed": seed, **parameters}

    stale = [
        pair
        for pair in pairs
        if pair.guessed
        and not (same_parameters(pair.target, wanted(pair)) and writer.has_image(pair, "target"))
    ]
    mine = writer.share.of(stale)
    run.progress.begin("targets sampled", len(mine), (_GUESSED, SCALE))
    for start in range(0, len(mine), sample.batch_size):
        batch = writer.forget(mine[start : start + sample.batch_size], "target")
        guesses = torch.cat([read_image(writer.folder, "guess", pair) for pair in batch])
        images = sample_targets(
            guesses,
            prior,
            sample,
            seeds=[wanted(pair)["seed"] for pair in batch],
            on_step=run.progress.within(start, start + len(batch)),
        ).targets
        writer.put(
            replace(
                writer.write_image(pair, "target", images[i : i + 1]),
                target=wanted(pair),
                status=KEPT,
                reason="",
                flags=(),
                measures={},
            )
            for i, pair in enumerate(batch)
        )
        run.sampled += len(batch)
