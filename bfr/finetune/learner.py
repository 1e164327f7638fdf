"""The learner: all that changes while a restorer is tuned, and goes into a run's state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW

from ..quality.perceptual import Distance
from ..restore.restorer import Restorer
from .checkpointing import checkpoint_blocks
from .discriminator import refresh
from .losses import Objective, make_objective
from .run_folder import State, pack, part_of, unpack
from .settings import FinetuneSettings
from .validate import Figures, gain


@dataclass(slots=True, eq=False)
class Learner:
    """All that changes in a run.

    Attributes:
        training: the restorer that is trained.
        scored: the moving average of its weights, or the same restorer.
        objective: its losses, with the discriminator.
        optimizers: the restorer's, and the discriminator's.
        scaler: of the losses, for float16.
        step: steps done.
        validations: the step of each, its figures, and their gain; None for -∞.
        best: the weights of the best restorer; empty while that is the base.
        faces: the panel's first faces by the "base" and by the "best" restorer.
        whole: whether no step is half done.
    """

    training: Restorer
    scored: Restorer
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
        return max(self.validations, key=lambda entry: _or_least(entry["gain"]))

    def modules(self) -> dict[str, nn.Module]:
        found: dict[str, nn.Module | None] = {
            "network": self.training.network,
            "average": None if self.scored is self.training else self.scored.network,
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

    def set_rates(self, settings: FinetuneSettings) -> None:
        """Gives the optimizers the learning rates of the next step."""
        rates = {"optimizer": settings.rate(self.step), "critic": settings.critic_rate(self.step)}
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While this lasts, what is changed belongs to no step, and is not saved."""
        self.whole = False
        yield
        self.whole = True

    def judge(self, figures: Figures, faces: Tensor) -> bool:
        """Takes down a validation; whether these are the best weights so far, and not the base."""
        base = self.validations[0]["figures"] if self.validations else figures
        gained = gain(figures, base)
        gained = gained if math.isfinite(gained) else None
        self.validations.append({"step": self.step, "gain": gained, "figures": figures})
        if self.best_validation["step"] != self.step:
            return False
        if self.step == 0:
            self.faces["base"] = faces
            return False
        self.faces["best"] = faces
        self.best = {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in self.scored.network.state_dict().items()
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


def make_learner(
    restorer: Restorer,
    settings: FinetuneSettings,
    distance: Distance,
    device: torch.device,
) -> Learner:
    """A copy of the base that is ready to learn.

    Args:
        restorer: the base; not changed.
        settings: the recipe.
        distance: of `load_distance`.
        device: where to train.

    Raises:
        WrongArchitectureError: for a restorer that cannot be trained, or not by this recipe.
        InputError: for patches that it cannot take.
    """
    training = restorer.copy().to(device, torch.float32)
    training.network.eval()
    scored = training.copy() if settings.ema else training
    objective = make_objective(training, settings, distance, device, settings.seed)
    if settings.checkpointing:
        checkpoint_blocks(training.network)
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
    return Learner(training, scored, objective, optimizers, scaler)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves an average of weights towards a network's: ``a ← decay·a + (1 - decay)·n``."""
    for mean, value in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _or_least(gained: float | None) -> float:
    return -math.inf if gained is None else gained
