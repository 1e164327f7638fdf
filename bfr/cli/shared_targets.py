"""``targets --ray``: pairs of many photographs, made all over a Ray cluster in one folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..errors import InputError, LostProcessError
from ..files.sources import Source
from ..records import counted
from .arguments import pick_device
from .attempts import Attempt, Found, Job, Work, anywhere, attempts
from .pairing import load_pairing
from .report import process, say

if TYPE_CHECKING:
    from ..pairs.maker import MadeWith, Maker
    from ..pairs.run import BuildReport


def share_targets(options: argparse.Namespace, sources: Sequence[Source]) -> BuildReport:
    """Makes what is missing in a pairs folder that all nodes of a cluster reach.

    Raises:
        InputError: if guesses or targets come from elsewhere, or there is no such cluster.
        BusyError: if another process is writing to the folder.
        OutputError: if it cannot be written to.
    """
    if options.guesses is not None or options.targets is not None:
        raise InputError(
            "--ray must be given photographs alone, got --guesses or --targets. Take these over "
            "on one machine, without --ray."
        )
    from ..cluster.pool import cluster
    from ..pairs.maker import place_of
    from ..pairs.shared import shared_folder

    with cluster(options.ray), shared_folder(options.out) as folder:
        undone = list(sources)
        if folder.writer.photographs:
            undone = folder.undone(sources, _made_with(options))
        say(f"Loading the networks for {counted(len(undone), 'photograph')} …")
        made, problems = list[Source](), list[tuple[str, str]]()

        def noted() -> Iterator[tuple[Source, Attempt]]:
            jobs = [Job(source, options.out) for source in undone]
            for source, done in attempts(options, jobs, load_making):
                if (problem := done.entry["error"]) is None:
                    made.append(source)
                else:
                    problems.append((str(source.path), problem))
                yield source, done

        process(undone, noted(), say)
        report = folder.finish(sources)
    known = folder.writer.photographs
    report.searched, report.problems = len(made), problems
    report.guessed = report.sampled = sum(known[place_of(one)].faces or 0 for one in made)
    return report


def load_making(options: argparse.Namespace) -> Work:
    """Loads the networks; makes the pairs of a job's photograph in its target folder."""
    maker = _maker(options)

    def work(job: Job) -> Found:
        assert job.target is not None
        pairs = maker.put(job.source, job.target)
        return Found((), told=counted(pairs, "pair") if pairs else "no faces")

    return work


def _maker(options: argparse.Namespace) -> Maker:
    from ..pairs.maker import Maker

    detector, restorer, prior, settings = load_pairing(options, pick_device(options.device))
    assert restorer is not None and prior is not None  # `share_targets` saw to it
    return Maker(detector, restorer, prior, settings)


def _made_with(options: argparse.Namespace) -> MadeWith:
    """The record that a worker makes of the networks, whose precision may differ from here."""
    from ..cluster.pool import needs_of, spread

    asked = spread([None], partial(_ask, anywhere(options)), _lost, needs_of(options.device))
    ((_, made),) = asked
    if isinstance(made, str):
        raise LostProcessError(
            f"Cannot load the networks, because the worker died again and again: {made}. Look at "
            "the nodes' memory, and run the same again."
        )
    return made


def _ask(options: argparse.Namespace) -> Callable[[None], MadeWith | str]:
    made = _maker(options).made_with()
    return lambda _: made


def _lost(_: None, why: str) -> MadeWith | str:
    return why
