"""Progress of long work in stages: as numbers, and in words with the remaining time."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from ..records import OnStep

SCALE = 1000
"""The usual total that `Progress` reports to ``on_step``, over all stages."""

_PAUSE = 10.0  # seconds between two lines


def within(on_step: OnStep | None, start: int, stop: int, total: int) -> OnStep:
    """Progress of a part of the work, reported as progress of the whole.

    Args:
        on_step: takes the progress of the whole; None for none.
        start: where the part begins.
        stop: where it ends.
        total: of the whole.

    Returns:
        A callback for the part, which may count in units of its own.
    """

    def report(done: int, of: int, preview: Tensor | None) -> None:
        if on_step is not None:
            on_step(round(start + (stop - start) * done / max(of, 1)), total, preview)

    return report


class Progress:
    """Reports how far the work is.

    Args:
        say: takes a line of words, at most every few seconds; None for none.
        on_step: takes the figures at every step; raising from it stops the work.
        scale: the total that is reported to ``on_step``, over all stages.
    """

    def __init__(
        self, say: Callable[[str], None] | None, on_step: OnStep | None, scale: int = SCALE
    ):
        self.say = say or (lambda line: None)
        self._on_step, self._scale = on_step, scale
        self.begin("", 0, (0, 0))

    def begin(self, what: str, total: int, span: tuple[int, int], first: int = 0) -> None:
        """Begins a stage.

        Args:
            what: the things that are counted, in words.
            total: their number.
            span: the part of the scale that the stage takes.
            first: how many were done before.
        """
        self._what, self._total, self._span, self._first = what, total, span, first
        self._began = self._spoke = time.monotonic()
        self._last = first
        if first:
            self.say(f"resuming after {first} of {total} {what}")

    def tell(self, done: float, preview: Tensor | None = None, note: str = "") -> None:
        """Reports that ``done`` of the stage's total are done; a note is added to the words."""
        now, share = time.monotonic(), done / max(self._total, 1)
        if self._on_step is not None:
            first, last = self._span
            self._on_step(round(first + (last - first) * share), self._scale, preview)
        new, self._last = done - self._last, done
        if new > 0 and (now - self._spoke >= _PAUSE or done == self._total):
            self._spoke = now
            spent = now - self._began
            left = spent / (done - self._first) * (self._total - done)
            rest = f"about {in_words(left)} left" if share < 1 else in_words(spent)
            words = f"{int(done)} of {self._total} {self._what}"
            self.say(", ".join(part for part in (words, note, rest) if part))

    def within(self, start: float, stop: float) -> OnStep:
        """Progress of the part of this stage between two numbers of its total."""

        def report(done: int, of: int, preview: Tensor | None) -> None:
            self.tell(start + (stop - start) * done / max(of, 1), preview)

        return report


def in_words(seconds: float) -> str:
    """A duration in words: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
