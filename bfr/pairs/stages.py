"""The second half of a pseudo-target set: guesses and targets, each only where still to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..errors import ImageError, InputError
from ..prior.prior import Prior
from ..prior.sample import sample_targets
from ..prior.settings import SampleSettings, fingerprint
from ..runtime.progress import SCALE
from .crops import FOUND
from .folder import KEPT, pair_seed, read_image, same_parameters
from .guesses import Guesses
from .pair import Pair
from .run import Run

_GUESSED = SCALE // 10  # where the guesses end, of all the progress
_UNJUDGED: dict[str, Any] = {"status": KEPT, "reason": "", "flags": (), "measures": {}}


def make_guesses(run: Run, pairs: Sequence[Pair], guesses: Guesses) -> None:
    """Makes the guesses that are missing or out of date."""
    stale = _stale(run, run.writer.share.of(pairs), "guess", "lq", guesses)
    run.progress.begin("guesses made", len(stale), (FOUND, _GUESSED))
    run.report.guessed += _take(run, stale, "guess", guesses)
    run.writer.sync()


def take_targets(run: Run, pairs: Sequence[Pair], targets: Guesses) -> None:
    """Takes the targets made elsewhere that are missing or out of date."""
    guessed = [pair for pair in run.writer.share.of(pairs) if pair.guessed]
    stale = _stale(run, guessed, "target", "guess", targets)
    run.progress.begin("targets taken", len(stale), (_GUESSED, SCALE))
    run.report.sampled += _take(run, stale, "target", targets, **_UNJUDGED)


def _stale(
    run: Run, pairs: Sequence[Pair], kind: str, after: str, source: Guesses
) -> list[tuple[Pair, dict[str, Any]]]:
    """The pairs whose image of that kind is to be made from their image ``after``, and with what
    parameters."""
    stale: list[tuple[Pair, dict[str, Any]]] = []
    for pair in pairs:
        try:
            wanted = {after: pair.sha256[after], **source.parameters(pair)}
            made = getattr(pair, kind)
            if not (same_parameters(made, wanted) and run.writer.has_image(pair, kind)):
                stale.append((pair, wanted))
        except (ImageError, InputError) as error:
            run.fail(pair.name, error)
    return stale


def _take(
    run: Run,
    stale: Sequence[tuple[Pair, dict[str, Any]]],
    kind: str,
    source: Guesses,
    **changes: Any,
) -> int:
    """Makes and writes the images of these pairs; their number."""
    writer, count = run.writer, 0
    for start in range(0, len(stale), source.at_once):
        part = stale[start : start + source.at_once]
        batch = writer.forget([pair for pair, _ in part], kind)
        try:
            images = source.make(batch, run.progress.within(start, start + len(batch)))
        except (ImageError, InputError) as error:
            for pair in batch:
                run.fail(pair.name, error)
            continue
        writer.put(
            replace(writer.write_image(pair, kind, images[i : i + 1]), **{kind: wanted, **changes})
            for i, (pair, (_, wanted)) in enumerate(zip(batch, part, strict=True))
        )
        count += len(batch)
        run.progress.tell(start + len(batch))
    return count


def make_targets(run: Run, pairs: Sequence[Pair], prior: Prior, sample: SampleSettings) -> None:
    """Samples the targets that are missing or out of date."""
    writer, parameters = run.writer, fingerprint(prior, sample)

    def wanted(pair: Pair) -> dict[str, Any]:
        seed = pair_seed(sample.seed, pair.source_sha256, pair.face)
        return {"guess": pair.sha256["guess"], "seed": seed, **parameters}

    def is_current(pair: Pair) -> bool:
        return same_parameters(pair.target, wanted(pair)) and writer.has_image(pair, "target")

    stale: list[Pair] = []
    for pair in pairs:
        try:
            if pair.guessed and not is_current(pair) and writer.has_image(pair, "guess"):
                stale.append(pair)
        except ImageError as error:  # an image that was exchanged stays, and is reported
            run.fail(pair.name, error)
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
                **_UNJUDGED,
            )
            for i, pair in enumerate(batch)
        )
        run.report.sampled += len(batch)
