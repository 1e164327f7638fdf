"""Settings of sampling, their fit to a prior, and their fingerprint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..choices import SAMPLERS
from ..errors import InputError
from ..files.checksums import network_sha256
from .constraint import PAPER_SIZE, Constraint, check_fit
from .prior import Prior
from .samplers import spread
from .schedule import Respaced, respace
from .soft import SoftHold


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """The settings that pseudo targets are sampled with; the defaults are the paper's.

    Attributes:
        constraint: what is kept of the guess: the paper's hold or the soft one.
        steps: into how many the prior's noise is divided; start and stop count in them.
        sampler: one of `SAMPLERS`.
        calls: network calls per face, from 2 to start, spaced by `spread`; None for one per step.
            Where the network is `told_by_face`, the first of them looks at the guess.
        eta: of "ddim": 0 adds no noise, 1 as much as ancestral sampling.
        seed: of the first face; face i has ``seed + i``.
        batch_size: faces that go through the network at once.
        described: the constraint in the words of the report; empty for its own numbers.

    Raises:
        InputError: if a value is out of its range.
    """

    constraint: Constraint | SoftHold = field(default_factory=Constraint)
    steps: int = 250
    sampler: str = "ddpm"
    calls: int | None = None
    eta: float = 0.0
    seed: int = 0
    batch_size: int = 4
    described: str = field(default="", compare=False)

    def __post_init__(self):
        start = self.constraint.start
        if self.sampler not in SAMPLERS:
            raise InputError(
                f"The sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}. "
                "Choose one of them."
            )
        if self.calls is not None and not _is_whole(self.calls, 2, start):
            raise InputError(
                f"calls must be a whole number from 2 to start ({start}), one per step, got "
                f"{self.calls}. Choose fewer, or raise start."
            )
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta must be in [0, 1], got {self.eta}. 0 adds no noise.")
        check_seed(self.seed)
        if not _is_whole(self.batch_size, 1, 2**31):
            raise InputError(
                f"batch_size must be a whole number from 1, got {self.batch_size}. Choose 1 where "
                "memory is short."
            )

    @property
    def calls_a_face(self) -> int:
        """Network calls per face."""
        return self.calls or self.constraint.start

    @property
    def reached(self) -> list[int]:
        """The steps that the samples reach, rising: 0, …, start."""
        return [0, *spread(self.constraint.start, self.calls_a_face)]


def for_prior(
    settings: SampleSettings, prior: Prior, meant_for: int = PAPER_SIZE
) -> SampleSettings:
    """Adapts settings for faces of 512 px, such as the paper's, to a prior of another size.

    Args:
        settings: their constraint becomes the one `suited`; calls become at most its start.
        prior: of any size.
        meant_for: side in pixels of the faces that start, stop and factor are meant for.

    Raises:
        InputError: if ``start`` exceeds the number of steps.
    """
    steps = respace(prior.schedule, settings.steps)
    constraint = settings.constraint.suited(prior.size, steps, meant_for)
    calls = None if settings.calls is None else min(settings.calls, constraint.start)
    return replace(settings, constraint=constraint, calls=calls)


def check_prior(prior: Prior, settings: SampleSettings) -> Respaced:
    """Returns all steps of a prior's noise if it can sample with these settings.

    Raises:
        InputError: if the settings ask for steps that the prior has not learned, or for a
            factor that does not divide its size.
    """
    start = settings.constraint.start
    check_fit(settings.constraint.factor, start, prior.size, settings.steps)
    steps = respace(prior.schedule, settings.steps)
    if start > (learned := learned_steps(prior, steps)):
        raise InputError(
            f"start must be at most {learned} of {settings.steps}, the steps that the prior "
            f"{prior.name} has learned, got {start}. Lower start to {learned}, or choose another "
            "prior."
        )
    return steps


def learned_steps(prior: Prior, steps: Respaced) -> int:
    """The number of steps, from the cleanest, that a prior has learned."""
    return int((steps.timesteps <= prior.highest_step).sum())


def told_by_face(prior: Prior, settings: SampleSettings) -> bool:
    """True if the network is told of each guess's own noise: by the soft hold, where it has to be.

    The first of the calls then looks at the guess.
    """
    return prior.shift > 0 and isinstance(settings.constraint, SoftHold)


def sampling_calls(prior: Prior, settings: SampleSettings) -> int:
    """Network calls per face that sample, at least two."""
    looks = settings.calls is not None and told_by_face(prior, settings)
    return max(settings.calls_a_face - looks, 2)


def fingerprint(prior: Prior, settings: SampleSettings) -> dict[str, Any]:
    """All that a target depends on except its guess and seed, as JSON values.

    Two targets of the same guess, seed and fingerprint are equal, so pairs folders keep it to
    see what is out of date. A file's checksum stands for what the file says of the prior; what
    folders of earlier versions do not mention is left out at its default.
    """
    facts = {field.name: getattr(prior, field.name) for field in fields(Prior)}
    network = facts.pop("network")
    unmentioned = {"shift": 0, "highest_step": prior.schedule.steps - 1}
    for name, default in unmentioned.items():
        if prior.sha256 or facts[name] == default:
            del facts[name]
    facts |= {
        "schedule": asdict(prior.schedule),
        "sha256": prior.sha256 or network_sha256(network),
        "dtype": str(next(network.parameters()).dtype).removeprefix("torch."),
    }
    constraint = asdict(settings.constraint)
    if constraint.get("edges") == 0:
        del constraint["edges"]
    sampling = asdict(settings) | {"calls": settings.calls_a_face, "constraint": constraint}
    if told_by_face(prior, settings):
        sampling["shift"] = "by the guess's noise"
    unused = ("seed", "batch_size", "described") + (() if settings.sampler == "ddim" else ("eta",))
    return {"prior": facts, **{k: v for k, v in sampling.items() if k not in unused}}


def check_seed(seed: object) -> None:
    """Refuses what is no seed.

    Raises:
        InputError: if it is not a whole number from 0 to 2⁶⁴-1.
    """
    if not _is_whole(seed, 0, 2**64 - 1):
        raise InputError(
            f"A seed must be a whole number from 0 to 2⁶⁴-1, got {seed}. Choose another."
        )


def _is_whole(value: object, first: int, last: int) -> bool:
    return isinstance(value, int) and first <= value <= last


def describe(settings: SampleSettings) -> str:
    """The constraint in words, as whoever made the settings describes it, or in their numbers."""
    hold = settings.constraint
    if settings.described:
        return settings.described
    start = f"from step {hold.start} of {settings.steps}"
    values = f"factor {hold.factor}, strength {hold.strength:g}"
    if isinstance(hold, SoftHold):
        values += f", error {hold.error:g}, detail {hold.detail:g}, edges {hold.edges:g}"
        return f"soft hold {start}, {values}"
    held = sum(map(hold.holds_at, settings.reached[:-1]))
    return f"paper's hold {start} to {hold.stop}, {held} calls constrained, {values}"
