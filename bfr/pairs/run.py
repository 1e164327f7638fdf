"""One call of `build_pairs`: the set being written, its progress, and its report as it grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FaceRestorationError
from ..runtime.progress import Progress
from .folder import PairSet, in_order
from .pair import Pair
from .writer import PairWriter


@dataclass(slots=True)
class BuildReport:
    """The report of `build_pairs`; of several processes, this one's part.

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

    pairs: PairSet = field(default_factory=lambda: PairSet(Path(), ()))
    searched: int = 0
    guessed: int = 0
    sampled: int = 0
    removed: int = 0
    faceless: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """The state that the stages of `build_pairs` share."""

    writer: PairWriter
    progress: Progress
    report: BuildReport = field(default_factory=BuildReport)

    def fail(self, where: str, error: Exception) -> None:
        """Reports what failed; the rest goes on."""
        known = isinstance(error, FaceRestorationError)
        problem = str(error) if known else f"{type(error).__name__}: {error}"
        self.report.problems.append((where, problem))
        self.progress.say(f"{where}: failed{'' if known else ' unexpectedly'}: {problem}")

    def drop(self, pair: Pair) -> None:
        """Deletes a pair whose face is no longer in its photograph."""
        self.writer.drop(pair)
        self.report.removed += 1

    def finished(self) -> BuildReport:
        """The report, with the set as it is now."""
        pairs = tuple(in_order(self.writer.pairs.values()))
        self.report.pairs = PairSet(self.writer.folder, pairs)
        return self.report
