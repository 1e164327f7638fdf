"""Pseudo-target sets: detect, align, guess and sample, each only where it is still to do.

The stages run over all photographs one after the other, with the pairs folder between them: the
crops are read from disk for the guesses, and the guesses for the targets. So a set that was
interrupted ends up the same as one that was not, and faces of all photographs share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..faces.retinaface import Detector
from ..files.sources import Source
from ..image.tensors import check_images
from ..prior.prior import Prior
from ..prior.settings import check_prior
from ..records import OnStep
from ..restore.restorer import Restorer
from ..runtime.processes import Share
from ..runtime.progress import Progress
from .crops import Search, find_faces, identify
from .guesses import Guesses, GuessFolder, from_folder, from_restorer, from_tensors
from .pair import Pair
from .ready_crops import take_crops
from .run import BuildReport, Run
from .settings import PairSettings
from .stages import make_guesses, make_targets, take_targets
from .writer import PairWriter

OWN_SIZE = 512
"""Side in pixels of the crops where neither a restorer nor a prior has a size."""

Sampler = Callable[[Run, Sequence[Pair]], None]


def build_pairs(
    sources: Sequence[Source],
    out: Path,
    detector: Detector,
    restorer: Restorer | None,
    prior: Prior | None,
    settings: PairSettings | None = None,
    *,
    guesses: Path | None = None,
    targets: Path | None = None,
    share: Share | None = None,
    say: Callable[[str], None] | None = None,
    on_step: OnStep | None = None,
) -> BuildReport:
    """Makes or resumes a set of pseudo targets from photographs.

    Only what is missing, or whose parameters or inputs have changed, is made. A photograph that
    fails is reported and left out. Whatever stops the work, what is done is kept.

    Args:
        sources: the photographs (`find_sources`).
        out: the pairs folder; made if missing. Pairs of other photographs in it stay.
        detector: of `load_detector`.
        restorer: what makes the first guesses; None if they come from ``guesses``.
        prior: what samples the targets; None if they come from ``targets``.
        settings: None for the defaults.
        guesses: a folder of guesses from elsewhere (`GuessFolder`).
        targets: a folder of targets made elsewhere, named as guesses are.
        share: this process's part of the work, the same work in all of them; None for all.
        say: takes lines of progress, with the remaining time.
        on_step: progress over all stages; raising from it stops the work.

    Raises:
        InputError: if settings are out of range, or not exactly one of restorer and guesses, and
            of prior and targets, is given, or the folder's lists are damaged.
        BusyError: if another process is writing to the folder.
        OutputError: if the folder cannot be written to, or the disk is full.
        WeightsError: if a network gives NaN.
    """
    settings, sampler = _checked(settings, restorer, guesses, prior, targets)
    size = crop_size(settings, restorer, prior)
    outside = GuessFolder(guesses, sources) if guesses is not None else None
    made = GuessFolder(targets, sources, "target") if targets is not None else None
    search = Search(detector, settings.score, settings.min_size, size)

    def find(run: Run) -> list[Pair]:
        return find_faces(run, identify(run, sources), search)

    def guesser(run: Run) -> Guesses:
        if outside is not None:
            return from_folder(outside, run.writer.photographs, size)
        return _restored(out, restorer, settings)

    def finish(run: Run, pairs: Sequence[Pair]) -> None:
        if made is not None:
            take_targets(run, pairs, from_folder(made, run.writer.photographs, size))
        else:
            sampler(run, pairs)

    return _build(Run(PairWriter(out, share), Progress(say, on_step)), find, guesser, finish)


def crop_size(settings: PairSettings, restorer: Restorer | None, prior: Prior | None) -> int:
    """The side of the crops in pixels: the settings', else the restorer's, else the prior's."""
    return settings.size or (restorer and restorer.size) or (prior.size if prior else OWN_SIZE)


def build_pairs_from_crops(
    crops: Tensor,
    out: Path,
    restorer: Restorer | None,
    prior: Prior | None,
    settings: PairSettings | None = None,
    *,
    names: Sequence[str] | None = None,
    guesses: Tensor | None = None,
    targets: Tensor | None = None,
    detector: Detector | None = None,
    share: Share | None = None,
    say: Callable[[str], None] | None = None,
    on_step: OnStep | None = None,
) -> BuildReport:
    """Makes or resumes a set of pseudo targets from faces that are aligned already.

    Args:
        crops: N×3×S×S RGB in [0, 1].
        out: the pairs folder.
        restorer: what makes the first guesses; None if they come in ``guesses``.
        prior: what samples the targets; None if they come in ``targets``.
        settings: None for the defaults; the size is the crops'.
        names: the name of each crop's pair; None for "crop 1" and so on.
        guesses: N×3×S×S RGB in [0, 1] from elsewhere.
        targets: N×3×S×S RGB in [0, 1] made elsewhere, by any diffusion model.
        detector: finds the crops that show no face, which are reported and left out; None leaves
            out none.
        share, say, on_step: as of `build_pairs`.

    Raises:
        InputError: if tensors or settings are out of range or do not fit each other.
        BusyError: if another process is writing to the folder.
        OutputError: if the folder cannot be written to, or the disk is full.
    """
    settings, sampler = _checked(settings, restorer, guesses, prior, targets)
    names = names or [f"crop {number + 1:04d}" for number in range(len(crops))]
    _check_crops(crops, names, guesses=guesses, targets=targets)
    numbers: dict[str, int] = {}

    def find(run: Run) -> list[Pair]:
        numbers.update(take_crops(run, crops, names, detector, settings.score))
        return [run.writer.pairs[name] for name in numbers]

    def guesser(run: Run) -> Guesses:
        if guesses is not None:
            return from_tensors(guesses, numbers)
        return _restored(out, restorer, settings)

    def finish(run: Run, pairs: Sequence[Pair]) -> None:
        if targets is not None:
            take_targets(run, pairs, from_tensors(targets, numbers))
        else:
            sampler(run, pairs)

    return _build(Run(PairWriter(out, share), Progress(say, on_step)), find, guesser, finish)


def _build(
    run: Run,
    find: Callable[[Run], Sequence[Pair]],
    guesser: Callable[[Run], Guesses],
    finish: Sampler,
) -> BuildReport:
    """The stages, each over all photographs; what was rejected by hand is left alone."""
    with run.writer:
        pairs = find(run)
        make_guesses(run, [pair for pair in pairs if not pair.settled], guesser(run))
        current = [run.writer.pairs[pair.name] for pair in pairs]
        finish(run, [pair for pair in current if not pair.settled])
    return run.finished()


def _checked(
    settings: PairSettings | None,
    restorer: Restorer | None,
    guesses: object,
    prior: Prior | None,
    targets: object,
) -> tuple[PairSettings, Sampler]:
    """The settings and what samples targets, refused before any work if they cannot be."""
    settings = settings or PairSettings()
    for name, value in (("score", settings.score), ("fidelity", settings.fidelity)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be in [0, 1], got {value}.")
    if settings.batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {settings.batch_size}.")
    if settings.size is not None and settings.size < 16:
        raise InputError(f"The crop size must be at least 16 pixels, got {settings.size}.")
    if (restorer is None) == (guesses is None):
        given = "both" if restorer is not None else "neither"
        raise InputError(
            f"First guesses must come from a restorer or from elsewhere, got {given}. Give one of "
            "the two."
        )
    if (prior is None) == (targets is None):
        given = "both" if prior is not None else "neither"
        raise InputError(
            f"Targets must come from a prior or from elsewhere, got {given}. Give one of the two."
        )
    return settings, _sampler(settings, restorer, prior)


def _sampler(settings: PairSettings, restorer: Restorer | None, prior: Prior | None) -> Sampler:
    """The function that samples the targets of pairs; it does nothing without a prior."""
    if prior is None:
        return lambda run, pairs: None
    sample = settings.sampled_by(prior)
    check_prior(prior, sample)
    return lambda run, pairs: make_targets(run, pairs, prior, sample)


def _check_crops(crops: Tensor, names: Sequence[str], **others: Tensor | None) -> None:
    check_images(crops, "crops")
    if crops.shape[2] != crops.shape[3]:
        raise InputError(f"Face crops must be square, got {tuple(crops.shape)}. Align them first.")
    if len(names) != len(crops):
        raise InputError(
            f"{len(crops)} crops must have as many names, got {len(names)}. Name each of them."
        )
    for what, images in others.items():
        if images is None:
            continue
        check_images(images, what)
        if images.shape != crops.shape:
            raise InputError(
                f"{what} must have the shape of the crops, {tuple(crops.shape)}, got "
                f"{tuple(images.shape)}. Give each crop one of its size."
            )


def _restored(out: Path, restorer: Restorer | None, settings: PairSettings) -> Guesses:
    assert restorer is not None  # `_checked` saw to it
    return from_restorer(out, restorer, settings.fidelity, settings.batch_size)
