"""A run under way: what it prepares, writes down and shows."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..damage.learned import LearnedDamage
from ..errors import InputError, LossError, WeightsError
from ..faces.identity import Identity, load_identity
from ..image.plots import curves
from ..pairs.folder import PairSet
from ..quality.perceptual import load_distance
from ..records import OnStep
from ..restore.restorer import Restorer
from ..runtime.processes import Share
from ..runtime.progress import Progress
from .adapters import plain_state
from .batches import TrainingSet
from .board import open_board
from .half_blocks import quicken
from .held_back import MOST_HELD
from .identity import as_begun, identify, rates, settled
from .learner import Learner, make_learner
from .look import Given, Look
from .objective import Batch
from .run_folder import LOSS, SAMPLES, RunFolder
from .save import provenance
from .settings import FinetuneSettings
from .validate import SHOWN, Panel, first_looks, make_panel, means, measure, restore, strip

log = logging.getLogger(__name__)

_SAVE_AFTER = 300.0  # seconds after which the state is saved, however few steps they were


@dataclass(slots=True, eq=False)
class Run:
    """A run under way.

    Attributes:
        base: the restorer that it began with.
        data: the pairs.
        panel: the faces that are scored.
        identity: of `identify`.
        folder: where everything is written.
        learner: all that changes.
        judge: the network that tells whether a face is still the same person.
        micros: the numbers of this process's micro-batches in each batch.
        batches: the micro-batches of the steps to come.
        board: TensorBoard's writer, or None.
        diverged: why the run stopped when its loss was no longer finite; empty if it was.
        finished: whether it was already finished when it was opened.
    """

    base: Restorer
    data: TrainingSet
    panel: Panel
    identity: dict[str, Any]
    folder: RunFolder
    learner: Learner
    judge: Identity
    micros: list[int]
    batches: Generator[list[Batch]]
    board: Any = None
    diverged: str = ""
    finished: bool = False
    _saved: float = field(default_factory=time.monotonic)
    _saved_step: int = field(init=False)
    _before: list[tuple[Look, Given]] | None = None

    def __post_init__(self) -> None:
        self._saved_step = self.learner.step

    def learn(self, share: Share, progress: Progress) -> None:
        """Takes a step and logs its losses."""
        learner = self.learner
        rate = self.data.settings.rate(learner.step)
        batches = zip(self.micros, next(self.batches), strict=True)
        losses = learner.learn(batches, share, lambda: progress.tell(learner.step))
        self.folder.add({"step": learner.step, "rate": rate, **losses})
        if self.board is not None:
            for name, value in losses.items():
                self.board.add_scalar(name, value, learner.step)
        progress.tell(learner.step, note=f"loss {sum(losses.values()):.4f}")

    def validate(self, progress: Progress) -> None:
        """Scores the restorer as it is, and keeps the best; LossError if it gives NaN."""
        learner, folder, step = self.learner, self.folder, self.learner.step

        def interrupt(*_: object) -> None:
            progress.tell(step)

        try:
            restored = restore(learner.scored, self.panel, interrupt)
        except WeightsError as error:
            if step:
                raise LossError(
                    f"Faces must be finite, got others at step {step}. Lower the learning rate."
                ) from error
            raise
        if self._before is None:
            first = restored if step == 0 else self._restored_by_base(interrupt)
            self._before = first_looks(first, self.panel, self.judge)
        figures = measure(restored, self.panel, self._before, self.judge)
        faces = restored[0][:SHOWN].clone()
        verdict = learner.judge(figures, faces)
        if step and learner.best_validation["step"] == step:
            folder.keep_best(self.plain(self.base), self.about(step))
        folder.add({"step": step, "gain": verdict.gain, **means(figures)})
        picture = strip(self.panel, base=learner.faces["base"], now=faces)
        folder.draw(f"{SAMPLES}/step_{step:06d}.png", picture)
        if step:
            folder.draw(LOSS, self.plot())
            progress.say(f"step {step} of {self.data.settings.steps}: {verdict.describe()}")
        progress.tell(step, picture)

    def plain(self, base: Restorer) -> Restorer:
        """The scored restorer on the CPU, as a copy of the base with other weights."""
        found = base.copy().to("cpu", torch.float32)
        found.network.load_state_dict(plain_state(self.learner.scored.network))
        return found

    def _restored_by_base(self, on_step: OnStep) -> list[Tensor]:
        base = self.base.copy().to(self.learner.device, torch.float32)
        quicken(base.network)  # as the learner's, or a resumed run would differ by rounding
        return restore(base, self.panel, on_step)

    def is_save_due(self, every: int) -> bool:
        """True if enough new steps or minutes have passed since the last save."""
        step, late = self.learner.step, time.monotonic() - self._saved > _SAVE_AFTER
        return step > self._saved_step and (step % every == 0 or late)

    def save(self) -> None:
        """Saves the state, unless a step is half done; the last one saved then counts."""
        if not self.learner.whole:
            log.warning("Stopped in the middle of a step: the last state that was saved counts.")
            return
        self._write(finished=False)
        self._saved, self._saved_step = time.monotonic(), self.learner.step

    def finish(self) -> None:
        """Reduces the state to the result, unless that was done before."""
        if not self.finished:
            self._write(finished=True)

    def _write(self, finished: bool) -> None:
        facts = {"run": self.identity, "diverged": ""}
        self.folder.save({**self.learner.state(finished), **facts})

    def diverge(self, error: LossError) -> str:
        """Marks the last saved state as one that leads astray; returns why, in words."""
        self.diverged = f"{error} Its pairs: {', '.join(self.data.names(self.learner.step))}."
        state = self.folder.read() if self.folder.writes else None
        if state is not None:
            self.folder.save({**state, "diverged": self.diverged})
        return self.diverged

    def about(self, step: int) -> dict[str, str]:
        """The provenance of the restorer of a step."""
        return provenance(
            self.identity["base"],
            self.data.train,
            self.data.settings,
            step=step,
            run=hashlib.sha256(json.dumps(self.identity).encode()).hexdigest(),
            loss=self.learner.objective.describe(),
        )

    def plot(self) -> Tensor:
        """The losses by step, 1×3×H×W RGB in [0, 1]."""
        series: dict[str, tuple[list[float], list[float]]] = {}
        for line in self.folder.lines():
            if "gain" not in line:
                for name in sorted(line.keys() - {"step", "rate"}):
                    steps, values = series.setdefault(name, ([], []))
                    steps.append(line["step"])
                    values.append(line[name])
        if not series:
            return curves({"loss": ([0.0], [0.0])}, "No step is done yet")
        return curves(series, "Losses", log=True)

    def close(self) -> None:
        """Ends reading and writing, and leaves nothing on the device."""
        self.batches.close()
        if self.board is not None:
            self.board.close()
        self.learner.release()


def prepare(
    restorer: Restorer,
    pairs: PairSet,
    place: RunFolder,
    settings: FinetuneSettings,
    clean: Path | None,
    damage: LearnedDamage | None,
    evaluation: Tensor | None,
    device: torch.device | str | None,
    resume: bool | None,
    share: Share,
    tensorboard: bool,
    judge: Identity | None,
) -> Run:
    """Checks everything that a run needs, and begins or resumes it; arguments as of `finetune`."""
    device = torch.device(device or share.device or restorer.device)
    settings = as_begun(settings, None if resume is False else place.read())
    settings = settled(settings, restorer, device)
    data = TrainingSet(pairs, settings, clean, restorer.size, damage)
    micros = list(share.of(range(settings.micro_batches)))
    if settings.micro_batches < share.count:
        raise InputError(
            f"There must be a micro-batch per step for each process, got "
            f"{settings.micro_batches} for {share.count} processes. Start fewer, or lower "
            "micro_batch."
        )
    panel = make_panel(pairs, data.held, data.train, evaluation, MOST_HELD)
    distance = load_distance(settings.distance, device)
    identity = identify(restorer, data, evaluation, distance.name, judge)
    learner = make_learner(restorer, settings, distance, device)
    diverged = ""
    if (state := place.open(identity, resume, share.wait)) is not None:
        again = bool(state["diverged"]) and rates(state["run"]) != rates(identity)
        learner.load(state, from_best=again)
        diverged = "" if again else state["diverged"]
        place.rewind(learner.step, learner.validated)
    steps = range(learner.step, settings.steps)
    batches = data.batches(steps, micros)
    board = open_board(place, learner.step) if tensorboard and place.writes else None
    finished = state is not None and not state["modules"]
    judge = judge or load_identity()
    run = Run(
        *(restorer, data, panel, identity, place, learner, judge, micros, batches),
        board=board,
        diverged=diverged,
        finished=finished,
    )
    if state is None:
        run.save()  # it makes the folder the run's own
    return run
