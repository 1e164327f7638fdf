"""The loop that tunes a restorer to a set of pairs, and never returns a worse one unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..damage.learned import LearnedDamage
from ..errors import CancelledError, InputError, LossError, OutOfMemoryError, OutputError
from ..faces.identity import Identity
from ..files.places import lies_in
from ..pairs.folder import PairSet
from ..records import OnStep
from ..restore.restorer import Restorer
from ..runtime.memory import DeviceOutOfMemoryError, is_out_of_memory
from ..runtime.processes import Share
from ..runtime.progress import Progress
from .adapters import plain_state
from .report import INTERRUPTED, describe
from .run import Run, prepare
from .run_folder import RunFolder
from .settings import FinetuneSettings
from .validate import strip


@dataclass(frozen=True, slots=True, eq=False)
class Finetuned:
    """The result of fine-tuning.

    Attributes:
        restorer: the best restorer of the run, a copy of its own in evaluation mode, on the CPU,
            in the base's dtype; the base's weights where nothing was better.
        improved: whether it scored better than the base.
        best_step: the step that it is from; 0 is the base.
        steps: steps done, including those of earlier parts of the run.
        finished: whether these are all; False after a cancellation or divergence.
        about: where the restorer comes from, as `provenance` has it; empty for the base.
        report: in plain words, with the figures of base and best; what matters most comes first.
        strip: 1×3×H×W RGB in [0, 1]: faces as input, guess, pseudo target, restored by the base
            and by the best restorer, if that is another.
        plot: 1×3×H×W RGB in [0, 1]: the losses by step.
        interrupted: whether it was cancelled, and the same call would resume it.
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
    interrupted: bool = False


@torch.inference_mode(False)  # ComfyUI's nodes run in it, and nothing learns there
@torch.enable_grad()
def finetune(
    restorer: Restorer,
    pairs: PairSet,
    run: Path,
    settings: FinetuneSettings,
    *,
    clean: Path | None = None,
    damage: LearnedDamage | None = None,
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
    judge: Identity | None = None,
) -> Finetuned:
    """Tunes a copy of a restorer to pairs of degraded faces and pseudo targets.

    The restorer is scored before the first step, at every validation and at the end, and the best
    one is returned: the base, if none is better. As in the published code the network trains in
    training mode, with its drop path; it restores without.

    Args:
        restorer: the base; never changed.
        pairs: what to learn from: its ``kept`` pairs.
        run: the folder of the run's state, log and pictures; empty, missing, or the run's own.
        settings: the recipe.
        clean: a folder of clean aligned faces for the discriminator; None for the targets.
        damage: of `damage_of`, to be put on the clean faces, which are then learned from as well.
        evaluation: N×3×S×S RGB in [0, 1], real degraded faces that are scored along with the
            pairs held back; the first 32 count.
        device: where to work; None for the share's device, or else the restorer's.
        resume: True resumes the run in the folder, False starts again in its place, None resumes
            where there is one.
        keep_worse: return the last restorer even if the base scored better.
        validate_every: steps between two validations.
        save_every: steps between two saves; the state is also saved every five minutes.
        share: this process's part of each batch; None for all.
        say: takes lines of progress.
        on_step: progress in steps, with the strip at validations. Raising `CancelledError`
            saves, and returns the best so far; any other error saves and is passed on.
        tensorboard: also write the log for TensorBoard.
        judge: of `load_identity`, which says whether faces stay the same people; None for the
            embedded one, which also gives the identity term its gradients.

    Returns:
        The result. A run whose loss stops being finite also returns what it had found; it may be
        resumed with another learning rate.

    Raises:
        InputError: for settings, pairs or evaluation faces that do not fit, or a folder that
            holds another run or anything else; the message names what differs.
        BusyError: if another process works in the folder.
        WrongArchitectureError: for a restorer that cannot be trained, or not by this recipe.
        OutOfMemoryError: if memory runs out; the message says what would need less.
        OutputError: if the folder cannot be written to, or the disk is full.
    """
    share = share or Share()
    if clean is not None and lies_in(Path(run), clean):
        raise InputError(
            f"A run must lie outside of the clean faces, got {run}: its pictures would be among "
            "them. Choose another folder."
        )
    folder = RunFolder(Path(run), writes=share.rank == 0)
    with folder.lock():
        course = prepare(
            restorer,
            pairs,
            folder,
            settings,
            clean,
            damage,
            evaluation,
            device,
            resume,
            share,
            tensorboard,
            judge,
        )
        stopped = _follow(course, share, say, on_step, validate_every, save_every)
        return _result(course, restorer, keep_worse, stopped)


def _follow(
    course: Run,
    share: Share,
    say: Callable[[str], None] | None,
    on_step: OnStep | None,
    validate_every: int,
    save_every: int,
) -> str:
    """Learns, validates and saves to the end; returns why it ended early, empty if it did not."""
    settings = course.data.settings
    progress = Progress(say, on_step, scale=settings.steps)
    learner, stopped = course.learner, course.diverged
    progress.begin("steps", settings.steps, (0, settings.steps), learner.step)
    try:
        while not stopped:
            at_end = learner.step == settings.steps
            if learner.validated < learner.step and (at_end or learner.step % validate_every == 0):
                course.validate(progress)
                course.save()
            elif course.is_save_due(save_every):
                course.save()
            if at_end:
                break
            course.learn(share, progress)
        share.wait()
        if not stopped:
            course.finish()
    except CancelledError:
        course.save()
        stopped = INTERRUPTED
    except LossError as error:
        stopped = course.diverge(error)
    except OutputError:
        raise  # the state cannot be saved: the last one that was counts
    except BaseException as error:
        course.save()
        if is_out_of_memory(error) and not isinstance(error, OutOfMemoryError):
            raise DeviceOutOfMemoryError(
                f"There must be memory to train with {settings.micro_batch} faces at once, got "
                "too little. Lower micro_batch or patch, switch checkpointing on, or use another "
                f"device. ({error})"
            ) from error
        raise
    finally:
        course.close()
    return stopped


def _result(course: Run, restorer: Restorer, keep_worse: bool, stopped: str) -> Finetuned:
    """The result of a run that has ended."""
    learner, tuned, best_step = course.learner, restorer.copy().to("cpu"), 0
    tuned.network.eval()
    if learner.best:
        best_step = learner.best_validation["step"]
        tuned.network.load_state_dict(learner.best)
    elif keep_worse:
        best_step = learner.step
        tuned.network.load_state_dict(plain_state(learner.scored.network))
    return Finetuned(
        restorer=tuned,
        improved=bool(learner.best),
        best_step=best_step,
        steps=learner.step,
        finished=not stopped,
        about=course.about(best_step) if learner.best or keep_worse else {},
        report=describe(course, keep_worse, stopped),
        strip=strip(course.panel, **learner.faces),
        plot=course.plot(),
        interrupted=stopped == INTERRUPTED,
    )
