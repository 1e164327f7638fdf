"""The loop that tunes a restorer to a set of pairs, and never returns a worse one unasked."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from .discriminator import refresh
from .errors import (
    CancelledError,
    FaceRestorationError,
    InputError,
    MissingPackageError,
    OutputError,
)
from .keep import pairs_sha256, provenance, save_restorer
from .memory import OutOfMemoryError, is_out_of_memory
from .objectives import Batch, Objective, make_objective
from .pairs import PairSet, network_sha256
from .perceptual import Distance, load_distance
from .plots import curves
from .progress import in_words
from .recipes import FinetuneSettings
from .records import OnStep
from .restorer import native_size
from .runs import BEST, LOSS, SAMPLES, RunFolder, State, check_same, pack, part_of, unpack
from .share import Share
from .trainset import MOST_HELD, TrainingSet
from .validate import Figures, Panel, gain, make_panel, score, strip, table

log = logging.getLogger(__name__)

_SAVE_AFTER = 300.0  # seconds after which the state is saved, however few steps they were
_SAY_AFTER = 10.0  # seconds between two lines of progress
_FEW = 8  # faces: a score on fewer says little
_FREE = ("micro_batch", "checkpointing")  # settings that change rounding alone
_LOWER = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class LossError(FaceRestorationError):
    """The loss or its gradient is not finite; the message names the step and its pairs."""


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
        report: in plain words, with the figures of base and best.
        strip: 1×3×H×W RGB in [0, 1]: faces as input, guess, pseudo target, by the base and by
            the best restorer, if that is another.
        plot: 1×3×H×W RGB in [0, 1]: the losses by step.
    """

    restorer: ImageModelDescriptor
    improved: bool
    best_step: int
    steps: int
    finished: bool
    report: str
    strip: Tensor
    plot: Tensor


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and nothing learns there
@torch.enable_grad()
def finetune(
    restorer: ImageModelDescriptor,
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
    data = TrainingSet(pairs, settings, clean, native_size(restorer))
    mine, part = _micro_batches(settings, share)
    panel = make_panel(pairs, data.held or data.train[:MOST_HELD], evaluation, MOST_HELD)
    distance = load_distance(settings.distance, device)
    identity = _identity(restorer, data, evaluation, distance)
    folder = RunFolder(Path(run), writes=share.rank == 0)
    state = _begin(folder, identity, resume, share)
    learner = _learner(restorer, settings, distance, device)
    if state is not None:
        learner.load(state)
        folder.rewind(learner.step, learner.validated)
    course = _Course(settings, data, panel, identity, folder, learner)
    pace = _Pace(say, on_step, learner.step, settings.steps)
    board = _board(folder, learner.step) if tensorboard and folder.writes else None

    network, objective, scaler = learner.training.model, learner.objective, learner.scaler
    discriminator, optimizers = objective.discriminator, list(learner.optimizers.values())
    batches = data.batches(range(learner.step, settings.steps), mine)
    finished = False
    try:
        for step in range(learner.step, settings.steps + 1):
            at_end = step == settings.steps
            if learner.validated < step and (at_end or step % validate_every == 0):
                pace.show(course.validate(pace.interrupt), learner.validations[-1]["gain"])
                course.save()
            elif step % save_every == 0 or time.monotonic() - course.saved > _SAVE_AFTER:
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
            _check_finite(losses, norm, scaler, step, data, course)

            with learner.changing():
                for optimizer in optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = settings.rate(step)
                    scaler.step(optimizer)
                    optimizer.zero_grad(set_to_none=True)
                scaler.update()
                if settings.ema:
                    _follow(learner.scored.model, network, settings.ema)
                if discriminator is not None:
                    refresh(discriminator)
                learner.step = step + 1
            line = {name: float(loss) for name, loss in losses.items()}
            folder.add({"step": step + 1, "rate": settings.rate(step), **line})
            if board is not None:
                for name, value in line.items():
                    board.add_scalar(name, value, step + 1)
            pace.tell(step + 1, sum(line.values()))
        finished = True
    except CancelledError:
        course.save()
    except (LossError, OutputError):
        raise  # the last save stays: it is better than what is now, or all that can be had
    except BaseException as error:
        course.save()
        if is_out_of_memory(error) and not isinstance(error, OutOfMemoryError):
            raise OutOfMemoryError(
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
class _Learner:
    """All that changes in a run.

    Attributes:
        training: the restorer that is trained.
        scored: the moving average of its weights, or the same restorer.
        objective: its losses, with the discriminator.
        optimizers: the restorer's, and the discriminator's.
        scaler: of the losses, for float16.
        step: steps done.
        validations: the figures, their gain and the step of each.
        best: the weights of the best restorer; empty while that is the base.
        faces: the panel's first faces by the "base" and by the "best" restorer.
        whole: whether no step is half done.
    """

    training: ImageModelDescriptor
    scored: ImageModelDescriptor
    objective: Objective
    optimizers: dict[str, AdamW]
    scaler: GradScaler
    step: int = 0
    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    faces: dict[str, Tensor] = field(default_factory=dict)
    whole: bool = True

    @property
    def validated(self) -> int:
        """The step of the last validation."""
        return self.validations[-1]["step"] if self.validations else -1

    @property
    def best_validation(self) -> dict[str, Any]:
        """That of the greatest gain: the base's, if no step's is above 0."""
        gains = [entry["gain"] for entry in self.validations]
        return self.validations[gains.index(max(gains))]

    def modules(self) -> dict[str, nn.Module]:
        found: dict[str, nn.Module | None] = {
            "network": self.training.model,
            "average": None if self.scored is self.training else self.scored.model,
            "discriminator": self.objective.discriminator,
        }
        return {name: module for name, module in found.items() if module is not None}

    def gradients(self) -> list[Tensor]:
        """The gradients of all that is trained, in one order in all processes."""
        return [
            parameter.grad
            for optimizer in self.optimizers.values()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While this lasts, what is changed belongs to no step, and is not saved."""
        self.whole = False
        yield
        self.whole = True

    def judge(self, figures: Figures, faces: Tensor) -> bool:
        """Takes down a validation; whether these are the best weights so far, and not the base."""
        base = self.validations[0]["figures"] if self.validations else figures
        better = gain(figures, base)
        self.validations.append({"step": self.step, "gain": better, "figures": figures})
        if self.best_validation["step"] != self.step:
            return False
        if self.step == 0:
            self.faces["base"] = faces
            return False
        self.faces["best"] = faces
        self.best = {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in self.scored.model.state_dict().items()
        }
        return True

    def state(self, identity: dict[str, Any]) -> State:
        """All of it, as a run's folder keeps it."""
        tensors = pack(self.modules(), self.optimizers)
        tensors |= {f"best {name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"faces {name}": tensor for name, tensor in self.faces.items()}
        facts = {
            "step": self.step,
            "run": identity,
            "validations": self.validations,
            "scaler": self.scaler.state_dict(),
        }
        return State(tensors, facts)

    def load(self, state: State) -> None:
        """Becomes what `state` was."""
        unpack(state.tensors, self.modules(), self.optimizers)
        self.best, self.faces = (part_of(state.tensors, part) for part in ("best", "faces"))
        self.step, self.validations = state.facts["step"], state.facts["validations"]
        self.scaler.load_state_dict(state.facts["scaler"])

    def release(self) -> None:
        """Leaves nothing on the device."""
        for module in self.modules().values():
            module.zero_grad(set_to_none=True)
            module.to("cpu")
        for optimizer in self.optimizers.values():
            optimizer.state.clear()


def _learner(
    restorer: ImageModelDescriptor,
    settings: FinetuneSettings,
    distance: Distance,
    device: torch.device,
) -> _Learner:
    """The base's copy, ready to learn."""
    training = deepcopy(restorer).float().to(device).eval()
    scored = deepcopy(training) if settings.ema else training
    objective = make_objective(training, settings, distance, device, settings.seed)
    if settings.checkpointing:
        from .checkpointing import checkpoint_blocks

        checkpoint_blocks(training.model)
    trained = {"optimizer": objective.parameters()}
    if objective.discriminator is not None:
        refresh(objective.discriminator)
        trained["critic"] = list(objective.discriminator.parameters())
    optimizers = {
        name: AdamW(
            parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        for name, parameters in trained.items()
    }
    scaler = GradScaler(device.type, enabled=settings.precision == "float16")
    return _Learner(training, scored, objective, optimizers, scaler)


@dataclass(slots=True, eq=False)
class _Course:
    """A run under way: what it writes down, and what it comes to."""

    settings: FinetuneSettings
    data: TrainingSet
    panel: Panel
    identity: dict[str, Any]
    folder: RunFolder
    learner: _Learner
    saved: float = field(default_factory=time.monotonic)

    def save(self) -> None:
        """Saves the state, if no step is half done; then the last one saved counts."""
        if self.learner.whole:
            self.folder.save(self.learner.state(self.identity))
            self.saved = time.monotonic()
        else:
            log.warning("Stopped in the middle of a step: the last state that was saved counts.")

    def validate(self, on_step: OnStep) -> Tensor:
        """Scores the restorer as it is, and keeps it if it is the best; the strip."""
        learner, folder = self.learner, self.folder
        figures, faces = score(learner.scored, self.panel, on_step)
        if learner.judge(figures, faces) and folder.writes:
            save_restorer(folder.folder / BEST, learner.scored, self.provenance(learner.step))
        entry = learner.validations[-1]
        folder.add({"step": learner.step, "gain": entry["gain"], **figures})
        picture = strip(self.panel, base=learner.faces["base"], now=faces)
        folder.draw(f"{SAMPLES}/step_{learner.step:06d}.png", picture)
        folder.draw(LOSS, self.plot())
        return picture

    def provenance(self, step: int) -> dict[str, str]:
        """What the file of a tuned restorer says about where it is from."""
        return provenance(
            self.identity["base"],
            self.data.train,
            self.settings,
            step=step,
            loss=self.learner.objective.describe(),
        )

    def plot(self) -> Tensor:
        """The losses by step, 1×3×H×W; before the first step the gain instead."""
        series: dict[str, tuple[list[float], list[float]]] = {}
        for line in self.folder.lines():
            if "gain" not in line:
                for name in line.keys() - {"step", "rate"}:
                    steps, values = series.setdefault(name, ([], []))
                    steps.append(line["step"])
                    values.append(line[name])
        if not series:
            return curves({"loss": ([0.0], [0.0])}, "No step is done yet")
        return curves(dict(sorted(series.items())), "Losses", log=True)

    def result(self, restorer: ImageModelDescriptor, finished: bool, keep_worse: bool) -> Finetuned:
        """What the run came to."""
        learner, tuned = self.learner, deepcopy(restorer).cpu().eval()
        improved, best_step = bool(learner.best), 0
        if improved:
            best_step = learner.best_validation["step"]
            tuned.model.load_state_dict(learner.best)
        elif keep_worse:
            best_step = learner.step
            tuned.model.load_state_dict(learner.scored.model.state_dict())
        return Finetuned(
            restorer=tuned,
            improved=improved,
            best_step=best_step,
            steps=learner.step,
            finished=finished,
            report=self.report(keep_worse, finished),
            strip=strip(self.panel, **learner.faces),
            plot=self.plot(),
        )

    def report(self, keep_worse: bool, finished: bool) -> str:
        """The result in plain words, with the figures of base and best."""
        learner, settings = self.learner, self.settings
        lines = []
        if not learner.validations:
            lines.append("Stopped before the base was scored: the base is returned.")
        else:
            base, best = learner.validations[0], learner.best_validation
            shown = best
            if learner.best:
                lines.append(
                    f"Better than the base: {best['gain']:+.1%} over its figures on average, at "
                    f"step {best['step']}."
                )
            else:
                shown = learner.validations[-1]
                returned = (
                    "the last one is returned, as asked" if keep_worse else "the base is returned"
                )
                lines.append(f"WARNING: no step scored better than the base; {returned}.")
            lines.append(table(base["figures"], shown["figures"]))
        done = f"{learner.step} of {settings.steps} steps"
        lines.append(f"{done} done." if finished else f"Stopped after {done}; it can go on.")
        lines.append(self.evidence())
        lines.append(f"Loss: {learner.objective.describe()}.")
        return "\n".join(lines)

    def evidence(self) -> str:
        """On what the figures rest."""
        count = len(self.panel.lq)
        pairs = f"{count} pair{'s' if count > 1 else ''}"
        words = f"Trained with {len(self.data.train)} pairs; scored on {pairs} held back"
        if not self.data.held:
            words = f"Trained with {len(self.data.train)} pairs; scored on {pairs} of these"
        if self.panel.faces is not None:
            words += f" and {len(self.panel.faces)} evaluation faces"
        few = count + (0 if self.panel.faces is None else len(self.panel.faces)) < _FEW
        return f"{words}.{' So few faces say little.' if few else ''}"


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

    def show(self, picture: Tensor, gained: float) -> None:
        """Shows a validation."""
        if self._done:
            verdict = f"{gained:+.1%} against the base" if math.isfinite(gained) else "drifted"
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


def _begin(
    folder: RunFolder, identity: dict[str, Any], resume: bool | None, share: Share
) -> State | None:
    """The state to go on from; None to begin."""
    folder.prepare()
    if resume is False:
        folder.clear()
    share.wait()
    state = folder.read()
    share.wait()
    if state is not None:
        check_same(state.facts["run"], identity, folder.folder)
    elif resume:
        raise InputError(f"{folder.folder} holds no run to resume. Begin one there.")
    elif (folder.folder / BEST).exists():
        raise InputError(
            f"{folder.folder} holds the {BEST} of an earlier run, whose state is gone. Move it "
            "elsewhere, choose another folder, or begin anew in its place (no resume)."
        )
    else:
        folder.clear()
    return state


def _identity(
    restorer: ImageModelDescriptor, data: TrainingSet, evaluation: Tensor | None, distance: Distance
) -> dict[str, Any]:
    """What must not change in a run: all that its numbers depend on."""
    settings = data.settings.as_dict()
    clean = "".join(f"{path.name} {path.stat().st_size}\n" for path in data.clean)
    return {
        "settings": {name: value for name, value in settings.items() if name not in _FREE},
        "distance": distance.name,
        "base": network_sha256(restorer.model),
        "pairs": len(data.pairs.kept),
        "pairs' checksum": pairs_sha256(data.pairs.kept),
        "clean faces": _sha256(clean.encode()) if data.clean else None,
        "evaluation": None
        if evaluation is None
        else _sha256(evaluation.detach().cpu().float().contiguous().numpy().tobytes()),
    }


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
    losses: dict[str, Tensor],
    norm: Tensor,
    scaler: GradScaler,
    step: int,
    data: TrainingSet,
    course: _Course,
) -> None:
    """Stops a run that has gone astray, before it changes a weight."""
    # In float16 a gradient may overflow: the scaler then leaves out the step.
    astray = [name for name, loss in losses.items() if not math.isfinite(loss)]
    if not astray and not math.isfinite(norm) and not scaler.is_enabled():
        astray = ["gradient"]
    if astray:
        raise LossError(
            f"Step {step + 1}: {' and '.join(astray)} not finite, with the pairs "
            f"{', '.join(data.names(step))}. Nothing was changed by this step, and the state of "
            f"the last save is in {course.folder.folder}. Lower lr, set clip to 1 or precision to "
            "float32, or reject these pairs if they look broken, and begin a new run."
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
        torch.manual_seed(int(_sha256(" ".join(map(str, words)).encode())[:15], 16))
        yield


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the average towards the network: ``a ← decay·a + (1 - decay)·n``."""
    for mean, value in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
