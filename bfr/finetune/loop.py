"""The loop that tunes a restorer to a set of pairs, and never returns a worse one unasked."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_

from ..errors import (
    CancelledError,
    InputError,
    LossError,
    MissingPackageError,
    OutOfMemoryError,
    OutputError,
)
from ..image.plots import curves
from ..pairs.folder import PairSet
from ..quality.perceptual import load_distance
from ..records import OnStep
from ..restore.restorer import Restorer
from ..runtime.memory import DeviceOutOfMemoryError, is_out_of_memory
from ..runtime.processes import Share
from ..runtime.progress import in_words
from .batches import MOST_HELD, TrainingSet
from .discriminator import refresh
from .learner import Learner, follow, make_learner
from .losses import Batch
from .run_folder import BEST, LOSS, SAMPLES, RunFolder, identify
from .save import provenance, save_restorer
from .settings import FinetuneSettings
from .validate import Panel, make_panel, report, score, strip

log = logging.getLogger(__name__)

_SAVE_AFTER = 300.0  # seconds after which the state is saved, however few steps they were
_SAY_AFTER = 10.0  # seconds between two lines of progress
_LOWER = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Finetuned:
    """What a run of fine-tuning came to.

    Attributes:
        restorer: the best restorer of the run, of its own and in evaluation mode, on the CPU, in
            the base's dtype; the base's weights where nothing was better.
        improved: whether it scored better than the base.
        best_step: the step that it is of; 0 is the base.
        steps: steps done, those of earlier parts of the run included.
        finished: whether these are all; False after a cancellation.
        about: where the restorer is from, as `provenance` tells it; empty for the base.
        report: in plain words, with the figures of base and best.
        strip: 1×3×H×W RGB in [0, 1]: faces as input, guess, pseudo target, by the base and by
            the best restorer, if that is another.
        plot: 1×3×H×W RGB in [0, 1]: the losses by step.
    """

    restorer: Restorer
    improved: bool
    best_step: int
    steps: int
    finished: bool
    about: dict[str, str]
    report: str
    strip: Tensor
    plot: Tensor


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and nothing learns there
@torch.enable_grad()
def finetune(
    restorer: Restorer,
    pairs: PairSet,
    run: Path,
    settings: FinetuneSettings,
    *,
    clean: Path | None = None,
    evaluation: Tensor | None = None,
    device: torch.device | str | None = None,
    resume: bool | None = None,
    keep_worse: bool = False,
    validate_every: int = 100,
    save_every: int = 100,
    share: Share | None = None,
    say: Callable[[str], None] | None = None,
    on_step: OnStep | None = None,
    tensorboard: bool = False,
) -> Finetuned:
    """Tunes a copy of a restorer to pairs of degraded faces and pseudo targets.

    The restorer is scored before the first step, at every validation and at the end (`score`),
    and the best one is returned (`gain`): the base, if none is better. As in the published code
    the network trains in training mode, with the drop path that it has; it restores without.

    Args:
        restorer: the base; never changed.
        pairs: what to learn from; its ``kept`` pairs.
        run: the folder of the run's state, log and pictures; made if missing.
        settings: the recipe.
        clean: a folder of clean aligned faces for the discriminator; None for the targets.
        evaluation: N×3×S×S RGB in [0, 1], real degraded faces that are scored beside the pairs
            held back; the first 32 count.
        device: where to work; None for the share's device, or else the restorer's.
        resume: True continues the run that the folder holds, False begins anew in its place,
            None continues where there is one.
        keep_worse: return the last restorer even if the base scored better.
        validate_every: steps between two validations.
        save_every: steps between two saves; it is saved every five minutes, too.
        share: this process's part of each batch; None for all.
        say: takes lines of progress.
        on_step: progress in steps, with the strip at validations. Raising `CancelledError`
            saves, and returns the best so far; any other error saves and is passed on.
        tensorboard: write the log for TensorBoard, too.

    Raises:
        InputError: for settings, pairs or evaluation faces that do not fit, or a folder that
            holds another run; the message names what differs.
        WrongArchitectureError: for a restorer that cannot be trained, or not by this recipe.
        LossError: for a loss that is not finite; the state of the last save stays.
        OutOfMemoryError: if memory runs out; the message says what would need less.
        OutputError: if the folder cannot be written to, or the disk is full.
    """
    share = share or Share()
    device = torch.device(device or share.device or restorer.device)
    data = TrainingSet(pairs, settings, clean, restorer.size)
    mine, part = _micro_batches(settings, share)
    panel = make_panel(pairs, data.held or data.train[:MOST_HELD], evaluation, MOST_HELD)
    distance = load_distance(settings.distance, device)
    identity = identify(restorer, data, evaluation, distance.name)
    learner = make_learner(restorer, settings, distance, device)
    folder = RunFolder(Path(run), writes=share.rank == 0)
    if (state := folder.open(identity, resume, share.wait)) is not None:
        learner.load(state)
        folder.rewind(learner.step, learner.validated)
    course = _Course(data, panel, identity, folder, learner)
    pace = _Pace(say, on_step, learner.step, settings.steps)
    board = _board(folder, learner.step) if tensorboard and folder.writes else None

    network, objective, scaler = learner.training.network, learner.objective, learner.scaler
    discriminator, optimizers = objective.discriminator, list(learner.optimizers.values())
    batches = data.batches(range(learner.step, settings.steps), mine)
    finished = False
    try:
        for step in range(learner.step, settings.steps + 1):
            at_end = step == settings.steps
            if learner.validated < step and (at_end or step % validate_every == 0):
                pace.show(course.validate(pace.interrupt), learner.validations[-1]["gain"])
                course.save()
            elif course.is_save_due(save_every):
                course.save()
            if at_end:
                break

            network.train()
            losses: dict[str, Tensor] = {}
            for index, batch in zip(mine, next(batches), strict=True):
                batch = _on(batch, device)
                with _randomness(device, settings.seed, step, index):
                    with _autocast(settings, device):
                        terms, restored = objective.terms(batch)
                    scaler.scale(part * _sum(terms)).backward()
                    if discriminator is not None and restored is not None:
                        with _autocast(settings, device):
                            critic = objective.critic_terms(batch, restored.detach())
                        scaler.scale(part * _sum(critic)).backward()
                        terms |= critic
                for name, term in terms.items():
                    losses[name] = losses.get(name, 0.0) + part * term.detach()
                pace.interrupt()
            share.average([*learner.gradients(), *losses.values()])
            for optimizer in optimizers:
                scaler.unscale_(optimizer)
            norm = clip_grad_norm_(objective.parameters(), settings.clip or math.inf)
            _check_finite(losses, norm, scaler, step, data)

            with learner.changing():
                learner.set_rates(settings)
                for optimizer in optimizers:
                    scaler.step(optimizer)
                    optimizer.zero_grad(set_to_none=True)
                scaler.update()
                if settings.ema:
                    follow(learner.scored.network, network, settings.ema)
                if discriminator is not None:
                    refresh(discriminator)
                learner.step = step + 1
            line = {name: float(loss) for name, loss in losses.items()}
            folder.add({"step": step + 1, "rate": settings.rate(step), **line})
            if board is not None:
                for name, value in line.items():
                    board.add_scalar(name, value, step + 1)
            pace.tell(step + 1, sum(line.values()))
        share.wait()
        finished = True
    except CancelledError:
        course.save()
    except (LossError, OutputError):
        raise  # the last save stays: it is better than what is now, or all that can be had
    except BaseException as error:
        course.save()
        if is_out_of_memory(error) and not isinstance(error, OutOfMemoryError):
            raise DeviceOutOfMemoryError(
                f"There is not enough memory to train with {settings.micro_batch} faces at once. "
                "Make micro_batch or patch smaller, switch checkpointing on, or use another "
                f"device. ({error})"
            ) from error
        raise
    finally:
        batches.close()
        if board is not None:
            board.close()
        learner.release()
    return course.result(restorer, finished, keep_worse)


@dataclass(slots=True, eq=False)
class _Course:
    """A run under way: what it writes down, and what it comes to."""

    data: TrainingSet
    panel: Panel
    identity: dict[str, Any]
    folder: RunFolder
    learner: Learner
    saved: float = field(default_factory=time.monotonic)
    saved_step: int = field(init=False)

    def __post_init__(self) -> None:
        self.saved_step = self.learner.step

    def is_save_due(self, every: int) -> bool:
        """Whether there are new steps, and so many of them or minutes since the last save."""
        step, late = self.learner.step, time.monotonic() - self.saved > _SAVE_AFTER
        return step > self.saved_step and (step % every == 0 or late)

    def save(self) -> None:
        """Saves the state, if no step is half done; then the last one saved counts."""
        if not self.learner.whole:
            log.warning("Stopped in the middle of a step: the last state that was saved counts.")
            return
        self.folder.save(self.learner.state(self.identity))
        self.saved, self.saved_step = time.monotonic(), self.learner.step

    def validate(self, on_step: OnStep) -> Tensor:
        """Scores the restorer as it is, and keeps it if it is the best; the strip, 1×3×H×W."""
        learner, folder = self.learner, self.folder
        figures, faces = score(learner.scored, self.panel, on_step)
        if learner.judge(figures, faces) and folder.writes:
            save_restorer(folder.folder / BEST, learner.scored, self.about(learner.step))
        gained = learner.validations[-1]["gain"]
        folder.add({"step": learner.step, "gain": gained, **figures})
        picture = strip(self.panel, base=learner.faces["base"], now=faces)
        folder.draw(f"{SAMPLES}/step_{learner.step:06d}.png", picture)
        if learner.step:
            folder.draw(LOSS, self.plot())
        return picture

    def about(self, step: int) -> dict[str, str]:
        """Where the restorer of a step is from."""
        return provenance(
            self.identity["base"],
            self.data.train,
            self.data.settings,
            step=step,
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

    def result(self, restorer: Restorer, finished: bool, keep_worse: bool) -> Finetuned:
        """What the run came to."""
        learner, tuned = self.learner, restorer.copy().to("cpu")
        tuned.network.eval()
        best_step = 0
        if learner.best:
            best_step = learner.best_validation["step"]
            tuned.network.load_state_dict(learner.best)
        elif keep_worse:
            best_step = learner.step
            tuned.network.load_state_dict(learner.scored.network.state_dict())
        return Finetuned(
            restorer=tuned,
            improved=bool(learner.best),
            best_step=best_step,
            steps=learner.step,
            finished=finished,
            about=self.about(best_step) if learner.best or keep_worse else {},
            report=self.report(finished, keep_worse),
            strip=strip(self.panel, **learner.faces),
            plot=self.plot(),
        )

    def report(self, finished: bool, keep_worse: bool) -> str:
        """The result in plain words, with the figures of base and best."""
        learner, train = self.learner, len(self.data.train)
        best = learner.best_validation if learner.validations else {}
        done = f"{learner.step} of {self.data.settings.steps} steps"
        scored = self.panel.describe(held=bool(self.data.held))
        return "\n".join(
            [
                report(learner.validations, best, keep_worse),
                f"{done} done." if finished else f"Stopped after {done}; the run can go on.",
                f"Trained with {train} pairs; scored on {scored}.",
                f"Loss: {learner.objective.describe()}.",
            ]
        )


class _Pace:
    """Tells how far the loop is, and lets it be interrupted."""

    def __init__(
        self, say: Callable[[str], None] | None, on_step: OnStep | None, first: int, total: int
    ):
        self._say, self._on_step = say or (lambda line: None), on_step
        self._first, self._done, self._total = first, first, total
        self._began = self._spoke = time.monotonic()
        if first:
            self._say(f"going on after step {first} of {total}")

    def interrupt(self, *_: object) -> None:
        """Lets ``on_step`` stop the loop within a step."""
        if self._on_step is not None:
            self._on_step(self._done, self._total, None)

    def show(self, picture: Tensor, gained: float | None) -> None:
        """Shows a validation."""
        if self._done:
            verdict = "drifted" if gained is None else f"{gained:+.1%} against the base"
            self._say(f"step {self._done} of {self._total}: {verdict}")
        if self._on_step is not None:
            self._on_step(self._done, self._total, picture)

    def tell(self, done: int, loss: float) -> None:
        """Tells that a step is done."""
        self._done, now = done, time.monotonic()
        if now - self._spoke >= _SAY_AFTER:
            self._spoke = now
            left = (now - self._began) / (done - self._first) * (self._total - done)
            self._say(f"step {done} of {self._total}, loss {loss:.4f}, about {in_words(left)} left")
        self.interrupt()


def _micro_batches(settings: FinetuneSettings, share: Share) -> tuple[list[int], float]:
    """This process's micro-batches, and the weight of each in its mean over the batch."""
    count = settings.batch // settings.micro_batch
    mine = list(share.of(range(count)))
    if count < share.count:
        raise InputError(
            f"{share.count} processes came for {count} micro-batches a step. Start fewer, or make "
            "micro_batch smaller."
        )
    return mine, share.count / count


def _check_finite(
    losses: dict[str, Tensor], norm: Tensor, scaler: GradScaler, step: int, data: TrainingSet
) -> None:
    """Stops a run that has gone astray, before it changes a weight."""
    astray = [name for name, loss in losses.items() if not math.isfinite(loss)]
    # In float16 gradients overflow now and then: the scaler leaves out that step and lowers them.
    if not math.isfinite(norm) and (not scaler.is_enabled() or scaler.get_scale() < 1):
        astray.append("gradient")
    if astray:
        raise LossError(
            f"Step {step + 1}: {' and '.join(astray)} not finite, with the pairs "
            f"{', '.join(data.names(step))}. This step changed nothing, and the run's folder "
            "keeps the state of the last save. Lower lr, set clip to 1 or precision to float32, "
            "or reject these pairs if they look broken, and begin a new run."
        )


def _on(batch: Batch, device: torch.device) -> Batch:
    real = None if batch.real is None else batch.real.to(device)
    return Batch(batch.lq.to(device), batch.target.to(device), real)


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _autocast(settings: FinetuneSettings, device: torch.device) -> torch.autocast:
    lower = settings.precision != "float32"
    return torch.autocast(device.type, _LOWER.get(settings.precision), enabled=lower)


@contextmanager
def _randomness(device: torch.device, *words: object) -> Iterator[None]:
    """PyTorch's own random numbers, which dropout draws, follow from the words for a while."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(
            int(hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()[:15], 16)
        )
        yield


def _board(folder: RunFolder, step: int) -> Any:
    """TensorBoard's writer, which forgets what came after a step."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError(
            "Writing for TensorBoard needs its package: pip install tensorboard. Without it, the "
            "figures are in log.jsonl and loss.png."
        ) from error
    return SummaryWriter(str(folder.folder / "tensorboard"), purge_step=step + 1)
