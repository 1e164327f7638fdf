"""The learner: all that changes while a restorer is tuned, and how one step changes it.

One long module on purpose: what a step changes is just what the state must save.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from ..errors import CorruptWeightsError, LossError
from ..quality.perceptual import Distance
from ..restore.restorer import Restorer
from ..runtime.processes import Share
from .adapters import add_adapters, load_plain, plain_state
from .checkpointing import checkpoint_blocks
from .discriminator import refresh
from .figures import Figures
from .guard import Verdict, judge
from .half_blocks import quicken
from .losses import make_objective
from .objective import Batch, Objective
from .settings import FinetuneSettings

_LOWER = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FUSED = ("cpu", "cuda")  # where PyTorch's optimizer has one kernel, five times as quick


@dataclass(slots=True, eq=False)
class Learner:
    """All that changes in a run.

    Attributes:
        training: the restorer that is trained.
        scored: the moving average of its weights, or the same restorer.
        objective: its losses, with the discriminator.
        optimizers: the restorer's, and the discriminator's.
        scaler: of the losses, for float16.
        settings: the recipe.
        device: where it learns.
        channels_last: the order in memory that the faces are given in.
        step: steps done.
        validations: each one's step, figures and verdict, the base's first.
        best: the weights of the best restorer; empty while that is the base.
        faces: the panel's first faces by the "base" and by the "best" restorer.
        whole: False while a step is half done.
    """

    training: Restorer
    scored: Restorer
    objective: Objective
    optimizers: dict[str, AdamW]
    scaler: GradScaler
    settings: FinetuneSettings
    device: torch.device
    channels_last: bool = False
    step: int = 0
    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    faces: dict[str, Tensor] = field(default_factory=dict)
    whole: bool = True

    def learn(
        self, batches: Iterable[tuple[int, Batch]], share: Share, between: Callable[[], None]
    ) -> dict[str, float]:
        """Takes one step of the optimizers.

        Args:
            batches: this process's micro-batches, with their numbers in the step's batch.
            share: this process's part of the work.
            between: is called after each micro-batch; raising from it stops the step, which then
                has changed nothing.

        Returns:
            The losses by name, means over the whole batch.

        Raises:
            LossError: if a loss or the gradient is not finite; nothing is changed then.
        """
        losses = self._accumulate(batches, share, between)
        share.average([*self._gradients(), *losses.values()])
        for optimizer in self.optimizers.values():
            self.scaler.unscale_(optimizer)
        norm = clip_grad_norm_(self.objective.parameters(), self.settings.clip or math.inf)
        self._check_finite(losses, norm)
        with self.changing():
            self._set_rates()
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
                optimizer.zero_grad(set_to_none=True)
            self.scaler.update()
            if self.settings.ema:
                follow(self.scored.network, self.training.network, self.settings.ema)
            if self.objective.discriminator is not None:
                refresh(self.objective.discriminator)
            self.step += 1
        return {name: float(loss) for name, loss in losses.items()}

    def _accumulate(
        self, batches: Iterable[tuple[int, Batch]], share: Share, between: Callable[[], None]
    ) -> dict[str, Tensor]:
        """Adds up the gradients of all micro-batches; returns the losses."""
        self.training.network.train()
        part = share.count / self.settings.micro_batches
        losses: dict[str, Tensor] = {}
        for number, batch in batches:
            batch = batch.to(self.device, channels_last=self.channels_last)
            with _randomness(self.device, self.settings.seed, self.step, number):
                with self._autocast():
                    terms, restored = self.objective.terms(batch)
                self.scaler.scale(part * _sum(terms)).backward()
                critic_network = self.objective.discriminator
                if critic_network is not None and restored is not None:
                    with self._autocast():
                        critic = self.objective.critic_terms(batch, restored.detach())
                    learns = list(critic_network.parameters())
                    self.scaler.scale(part * _sum(critic)).backward(inputs=learns)
                    terms |= critic
            for name, term in terms.items():
                losses[name] = losses.get(name, 0.0) + part * term.detach()
            between()
        return losses

    def _check_finite(self, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        astray = [name for name, loss in losses.items() if not math.isfinite(loss)]
        # In float16 gradients overflow now and then: the scaler skips that step and scales less.
        overflows = self.scaler.is_enabled() and self.scaler.get_scale() >= 1
        if not math.isfinite(norm) and not overflows:
            astray.append("gradient")
        if astray:
            for optimizer in self.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            raise LossError(
                f"Losses must be finite, got others at step {self.step + 1}: {astray}. Lower the "
                "learning rate, or use float32."
            )

    def _gradients(self) -> list[Tensor]:
        """The gradients of all that is trained, in one order in all processes."""
        return [
            parameter.grad
            for optimizer in self.optimizers.values()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]

    def _set_rates(self) -> None:
        rates = {
            "optimizer": self.settings.rate(self.step),
            "critic": self.settings.critic_rate(self.step),
        }
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name]

    def _autocast(self) -> torch.autocast:
        lower = _LOWER.get(self.settings.precision)
        return torch.autocast(self.device.type, lower, enabled=lower is not None)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Marks a step as half done.

        If the block raises, the mark stays, and the state is not saved: there is no ``finally``
        on purpose.
        """
        self.whole = False
        yield
        self.whole = True

    @property
    def validated(self) -> int:
        """The step of the last validation; -1 before the first."""
        return self.validations[-1]["step"] if self.validations else -1

    @property
    def best_validation(self) -> dict[str, Any]:
        """The one with the greatest gain of those that beat the base; else the base's."""
        better = [entry for entry in self.validations if entry["verdict"]["better"]]
        return max(better or self.validations[:1], key=lambda entry: entry["verdict"]["gain"])

    def judge(self, figures: Figures, faces: Tensor) -> Verdict:
        """Records a validation, and keeps the weights if it is the best so far.

        Args:
            figures: of `measure`.
            faces: the panel's first restored faces.
        """
        base = self.validations[0]["figures"] if self.validations else figures
        verdict = judge(figures, base)
        entry = {"step": self.step, "verdict": asdict(verdict), "figures": figures}
        self.validations.append(entry)
        if len(self.validations) == 1:
            self.faces["base"] = faces
        elif self.best_validation is entry:
            self.faces["best"] = faces
            self.best = _copied(self.scored.network)
        return verdict

    def state(self, finished: bool) -> dict[str, Any]:
        """All of it, for `load`; once finished only the result, which takes a fifth of the room."""
        last = _copied(self.scored.network) if finished and not self.best else {}
        modules = {} if finished else self._modules()
        optimizers = {} if finished else self.optimizers
        return {
            "step": self.step,
            "validations": list(self.validations),
            "scaler": self.scaler.state_dict(),
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "optimizers": {name: each.state_dict() for name, each in optimizers.items()},
            "best": self.best,
            "last": last,
            "faces": self.faces,
        }

    def load(self, state: Mapping[str, Any], *, from_best: bool = False) -> None:
        """Takes over a saved state.

        Args:
            state: of `state`.
            from_best: go back to the best weights, or the base's, with optimizers and
                discriminator as new: they led astray.

        Raises:
            CorruptWeightsError: if it does not fit the networks.
        """
        try:
            self._load(state, from_best)
        except torch.OutOfMemoryError:
            raise
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CorruptWeightsError(
                "The run's state must fit the networks that are tuned, got another or a damaged "
                f"one ({type(error).__name__}: {str(error)[:200]}). Start again in a new folder."
            ) from error

    def _load(self, state: Mapping[str, Any], from_best: bool) -> None:
        self.step, self.validations = state["step"], list(state["validations"])
        self.best, self.faces = dict(state["best"]), dict(state["faces"])
        if from_best:
            for restorer in (self.training, self.scored) if self.best else ():
                load_plain(restorer.network, self.best)
            return
        if not state["modules"]:  # it is finished
            load_plain(self.scored.network, state["last"] or self.best)
            return
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.scaler.load_state_dict(state["scaler"])

    def release(self) -> None:
        """Frees all memory of the device."""
        for module in self._modules().values():
            module.zero_grad(set_to_none=True)
            module.to("cpu")
        for optimizer in self.optimizers.values():
            optimizer.state.clear()

    def _modules(self) -> dict[str, nn.Module]:
        found: dict[str, nn.Module | None] = {
            "network": self.training.network,
            "average": None if self.scored is self.training else self.scored.network,
            "discriminator": self.objective.discriminator,
        }
        return {name: module for name, module in found.items() if module is not None}


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
    fused = quicken(training.network)
    objective = make_objective(training, settings, distance, device, settings.seed)
    add_adapters(training.network, settings.adapter_rank, settings.seed)
    scored = training.copy() if settings.ema else training
    if settings.checkpointing:
        checkpoint_blocks(training.network)  # after the copies: a copied block calls the original's
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
            fused=device.type in _FUSED or None,
        )
        for name, parameters in trained.items()
    }
    scaler = GradScaler(device.type, enabled=settings.precision == "float16")
    ordered = fused > 0 or settings.precision in _LOWER
    return Learner(training, scored, objective, optimizers, scaler, settings, device, ordered)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves an average of weights towards a network's: ``a ← decay·a + (1 - decay)·n``."""
    means, values = (list(each.state_dict().values()) for each in (average, network))
    pairs = list(zip(means, values, strict=True))
    floating = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in floating], [new for _, new in floating], 1 - decay)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


@contextmanager
def _randomness(device: torch.device, *words: object) -> Iterator[None]:
    """Seeds PyTorch's global generator, which dropout draws from, by the words."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        digest = hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()
        torch.manual_seed(int(digest[:15], 16))
        yield


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in plain_state(network).items()
    }


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
