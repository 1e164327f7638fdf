"""The report of a run in plain words: what matters most comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import counted
from .guard import Verdict
from .validate import means, table

if TYPE_CHECKING:
    from .run import Run

INTERRUPTED = "It was interrupted."


def describe(run: Run, keep_worse: bool, stopped: str) -> str:
    """Says if the run was stopped, and if and how its best restorer beats the base.

    Args:
        run: the run.
        keep_worse: whether the last restorer is returned even if it is no better.
        stopped: why it ended early; empty if it did not.
    """
    learner, settings = run.learner, run.data.settings
    done = f"{learner.step} of {settings.steps} steps"
    lines: list[str] = []
    if stopped == INTERRUPTED:
        lines.append(f"INTERRUPTED after {done}. Run the same again to resume.")
    elif stopped:
        lines.append(
            f"DIVERGED after {done}: {stopped} Run it again with a lower learning rate, or a clip "
            "of 1, to go on from the best so far; look at these pairs if it happens again."
        )
    lines.append(_verdict(run, keep_worse))
    if learner.validations:
        shown = learner.best_validation if learner.best else learner.validations[-1]
        figures = learner.validations[0]["figures"], shown["figures"]
        lines.append(table(*map(means, figures)))
    if not stopped:
        lines.append(f"{done} done.")
    taught = f"{len(run.data.train)} pairs"
    if run.data.damage is not None:
        taught += f" and {counted(len(run.data.clean), 'clean face')} damaged alike"
    lines.append(f"Trained with {taught}; judged by {run.panel.describe()}.")
    lines.append(f"Loss: {learner.objective.describe()}.")
    return "\n".join(lines)


def _verdict(run: Run, keep_worse: bool) -> str:
    learner = run.learner
    if not learner.validations:
        return "The base was not scored yet, and is returned."
    if learner.best:
        best = learner.best_validation
        words = Verdict(**best["verdict"]).describe()
        return f"BETTER than the base, at step {best['step']}: {words}."
    returned = "the last one is returned, as asked" if keep_worse else "the base is returned"
    words = f"NO BETTER than the base: {returned}."
    last = learner.validations[-1]
    if last["step"]:
        words += f" The last one: {Verdict(**last['verdict']).describe()}."
    return words
