"""The check of `benchmarks.parity` for the constrained sampler: a whole recorded run.

The published code numbers and spaces the steps in notations of its own, and draws its noise in
another order; both are translated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.parity_figures import (
    Check,
    Figures,
    NotUnderstoodError,
    largest,
    missing,
    small_prior,
)
from bfr.prior.constraint import Constraint
from bfr.prior.noise import Noise
from bfr.prior.prior import Prior
from bfr.prior.sample import sample
from bfr.prior.schedule import Respaced, Schedule, respace, spaced
from bfr.prior.settings import SampleSettings


def check_sampler(figures: Figures) -> Iterator[Check]:
    """A whole constrained run with the recorded noise, each sample of it."""
    recorded, guess = figures.tensors, figures.tensors["reference"]
    start = int(figures.setting("start"))
    stop = int(figures.setting("constraint_stop", "stop"))
    schedule = schedule_of(figures)
    respacing = figures.metadata.get("respacing") or str(schedule.steps)
    steps = published_steps(schedule, respacing)
    if "timestep_map" in recorded:
        yield "timestep_map", largest(steps.timesteps - recorded["timestep_map"]), 0
    facts = {
        "size": guess.shape[-1],
        "schedule": schedule,
        "variance": figures.setting("variance", "variance_type"),
    }
    prior = small_prior(net_of(figures), figures.seed, **facts)
    if not respacing.isdecimal():
        prior = on_these_steps(prior, steps)
    constraint = Constraint(
        factor=int(figures.setting("lowpass_factor", "factor")),
        strength=1.0 if stop < start else 0.0,
        start=start,
        stop=stop if stop < start else 0,
    )
    first: list[Tensor] = []
    prior.network.register_forward_pre_hook(lambda network, args: first.append(args[0]))
    samples: list[Tensor] = []
    result = sample(
        prior,
        guess,
        SampleSettings(constraint, len(steps), batch_size=len(guess)),
        recorded_noise(recorded["noise"], start, stop),
        lambda x, step, clean: samples.append(x),
    )
    if stop == 0:  # the published code leaves out the constraint of the finished face
        result = samples[-1]
    yield "initial", largest(first[0] - recorded["initial"]), 1e-3
    yield "samples", largest(torch.stack(samples) - recorded["samples"]), 1e-3
    yield "final", largest(result - recorded["final"]), 1e-3


def net_of(figures: Figures) -> Path:
    """The file with the network's structure, in the same folder."""
    net, folder = figures.setting("net"), figures.path.parent
    named = [folder / f"unet_{net}.safetensors", *sorted(folder.glob(f"unet_*{net}*"))]
    return next((path for path in named if path.is_file()), None) or missing(
        f"network unet_{net}.safetensors beside it"
    )


def schedule_of(figures: Figures) -> Schedule:
    """The published schedules; the linear one is stretched over other numbers of steps."""
    steps = int(figures.metadata.get("train_steps", 1000))
    words = figures.metadata.get("beta_schedule", "linear")
    shape = words.split()[0]
    if shape != "linear":
        return Schedule(shape, steps)
    ends = re.search(r"([\d.e-]+?)\.\.([\d.e-]+)", words)
    first, last = map(float, ends.groups() if ends else (1e-4, 0.02))
    return Schedule(shape, steps, first * 1000 / steps, last * 1000 / steps)


def recorded_noise(noise: Tensor, start: int, stop: int) -> Noise:
    """The recorded noise in the published drawing order."""
    order = [("initial", 0)]
    for step in reversed(range(start)):
        order.append(("step", step))
        if step >= stop:
            order.append(("constraint", step))
    if len(order) != len(noise):
        raise NotUnderstoodError(
            f"{len(order)} draws of noise were expected from start {start} and stop {stop}, and "
            f"{len(noise)} are recorded"
        )
    drawn = dict(zip(order, noise, strict=True))
    return lambda purpose, step: drawn[purpose, step]


def published_steps(schedule: Schedule, notation: str) -> Respaced:
    """The steps that a published notation means.

    Args:
        schedule: of the prior.
        notation: ``"250"`` for that many; ``"10,15,20"`` for so many in each of equal sections;
            ``"ddim50"`` for that many, a whole stride apart.

    Raises:
        NotUnderstoodError: if the schedule cannot be divided like that.
    """
    if notation.isdecimal():
        return respace(schedule, int(notation))
    words = notation.removeprefix("ddim").split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise NotUnderstoodError(f"steps must be such as 250, 10,15,20 or ddim50, got {notation!r}")
    counts, total = [int(word) for word in words], schedule.steps
    chosen: list[int] = []
    if notation.startswith("ddim"):
        strides = (list(range(0, total, stride)) for stride in range(1, total))
        chosen = next((steps for steps in strides if [len(steps)] == counts), [])
    else:
        sizes = [total // len(counts) + (i < total % len(counts)) for i in range(len(counts))]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        if all(1 <= count <= size for count, size in zip(counts, sizes, strict=True)):
            sections = zip(starts, sizes, counts, strict=True)
            chosen = [a + step for a, size, count in sections for step in spaced(size, count)]
    if not chosen:
        raise NotUnderstoodError(f"{notation!r} does not divide {total} training steps")
    timesteps = torch.tensor(chosen)
    return Respaced(timesteps, schedule.alphas_cumprod[timesteps])


@dataclass(frozen=True, slots=True)
class _These(Schedule):
    """A schedule of the given steps alone."""

    given: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def alphas_cumprod(self) -> Tensor:
        return self.given


class _Renumbered(nn.Module):
    """A network that is given the original numbers of the steps."""

    def __init__(self, network: nn.Module, timesteps: Tensor):
        super().__init__()
        self.network, self.timesteps = network, timesteps

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, self.timesteps[t])


def on_these_steps(prior: Prior, steps: Respaced) -> Prior:
    """A prior whose every step is one of these; so any spacing is a number of steps."""
    return replace(
        prior,
        network=_Renumbered(prior.network, steps.timesteps),
        schedule=_These(steps=len(steps), given=steps.alphas_cumprod),
        highest_step=len(steps) - 1,
    )
