"""The loop that tunes a restorer to a set of pairs, and never returns a worse one unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor

from .pairs import PairSet
from .recipes import FinetuneSettings
from .records import OnStep
from .share import Share


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
        strip: 1×3×H×W RGB in [0, 1]: faces as input, guess, pseudo target, by the base, and now.
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
    """Tunes a copy of a restorer to its pairs of degraded faces and pseudo targets.

    Args:
        restorer: the base; never changed.
        pairs: what to learn from; its ``kept`` pairs.
        run: the folder of the run's state, log and pictures; made if missing.
        settings: the recipe.
        clean: a folder of clean aligned faces for the discriminator; None for the targets.
        evaluation: N×3×S×S RGB in [0, 1], real degraded faces that are scored beside the pairs
            held back.
        device: where to work; None for the share's device, or else the restorer's.
        resume: True continues the run that the folder holds, False begins anew, None continues
            where there is one.
        keep_worse: return the last restorer even if the base scored better.
        validate_every: steps between two validations.
        save_every: steps between two saves; it is saved every five minutes, too.
        share: this process's part of each batch; None for all.
        say: takes lines of progress.
        on_step: progress in steps, with the strip at validations. Raising `CancelledError`
            saves, and returns the best so far; any other error saves and is passed on.
        tensorboard: write the log for TensorBoard, too.
    """
    raise NotImplementedError
