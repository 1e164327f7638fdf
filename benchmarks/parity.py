"""Our results against figures of the published implementation.

    python benchmarks/parity.py DIR [--seed N]

Checks every file of a folder of figures: what a file holds is seen from its tensors, its settings
are read from its metadata, and weights follow from names and shapes by the rule of
``tests/rule_weights.py``. Prints each error beside its tolerance. The exit code is 1 where an
error exceeds it, where a file is not understood, or where there is none.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import parity_bfrffusion as bfrffusion
from bfr.image.lowpass import lowpass, resize_weights
from bfr.prior.constraint import Constraint
from bfr.prior.noise import Noise
from bfr.prior.prior import Prior, load_prior
from bfr.prior.sample import sample
from bfr.prior.schedule import Respaced, Schedule, respace, spaced
from bfr.prior.settings import SampleSettings
from bfr.restore.load import load_restorer
from tests.published_priors import published_unet
from tests.rule_weights import rule_state

Check = tuple[str, float, float]
"""What was compared, the largest error, and how large it may be."""


@dataclass(frozen=True, eq=False, slots=True)
class Figures:
    """One file of figures.

    Attributes:
        path: of the file.
        tensors: by name.
        metadata: its settings.
        seed: of the weights.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    seed: int

    def setting(self, *names: str) -> str:
        """The setting that has one of these names."""
        return next((self.metadata[n] for n in names if n in self.metadata), None) or _missing(
            f"setting {' or '.join(names)}"
        )


class NotUnderstoodError(Exception):
    """A file holds what there is no check for, or lacks what its check needs."""


def check_lowpass(figures: Figures) -> Iterator[Check]:
    """φ and its first half, for every case in the file."""
    for key, image in sorted(figures.tensors.items()):
        case, _, kind = key.rpartition(".")
        if kind != "input":
            continue
        small, expected = (figures.tensors[f"{case}.{name}"] for name in ("down", "output"))
        rows, columns = (
            resize_weights(image.shape[axis], small.shape[axis]).to(image) for axis in (-2, -1)
        )
        factor = image.shape[-1] // small.shape[-1]
        yield f"{case}.down", largest(rows @ image @ columns.mT - small), 1e-5
        yield f"{case}.output", largest(lowpass(image, factor) - expected), 1e-5


def check_unet(figures: Figures) -> Iterator[Check]:
    """A prior's network, loaded from a checkpoint in the published layout."""
    prior = small_prior(figures.path, figures.seed)
    output = prior.network(figures.tensors["x"], figures.tensors["t"])
    yield "output", largest(output - figures.tensors["output"]), 1e-4


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


def check_restorer(figures: Figures) -> Iterator[Check]:
    """A restorer, loaded from a checkpoint in the published layout."""
    shapes = json.loads(figures.setting("state_dict_shapes"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "restorer.pth"
        torch.save(rule_state(shapes, computed(shapes), figures.seed), path)
        restorer = load_restorer(path)
    output = restorer(figures.tensors["input"])
    yield "output", largest(output - figures.tensors["output"]), 1e-5


def check_formats(formats: Mapping[str, dict], seed: int) -> Iterator[Check]:
    """Published checkpoints at full size: built by the rule, loaded, every tensor compared."""
    for file, entry in formats.items():
        shapes = {name: shape for name, (shape, _) in entry["tensors"].items()}
        state = rule_state(shapes, computed(shapes), seed)
        for name, (_, dtype) in entry["tensors"].items():
            state[name] = state[name].to(getattr(torch, dtype))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
            began = time.perf_counter()
            network = load_full_size(path, entry)
            seconds = time.perf_counter() - began
        loaded = network.state_dict()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        what = f"{file}, {parameters / 1e6:.1f} M parameters in {seconds:.1f} s"
        if len(loaded) != len(state):
            raise NotUnderstoodError(f"{file}: {len(state)} tensors, and {len(loaded)} were loaded")
        # In the file's order: spandrel calls some otherwise.
        yield what, max(map(difference, loaded.values(), state.values())), 0


def load_full_size(path: Path, entry: Mapping) -> nn.Module:
    """The network of a published prior or restorer."""
    if not any(name.startswith("time_embed.") for name in entry["tensors"]):
        return load_restorer(path).network
    names = {"size": "image_size", "head_channels": "num_head_channels"}
    return load_prior(path, **{a: entry[b] for a, b in names.items() if b in entry}).network


def small_prior(file: Path, seed: int, **facts) -> Prior:
    """The network of a ``unet_*.safetensors``, through a checkpoint and our loader."""
    published = published_unet(file)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prior.pth"
        torch.save(published.state(seed), path)
        return load_prior(path, **{**published.facts, **facts})


def net_of(figures: Figures) -> Path:
    """The file with the network's structure, in the same folder."""
    net, folder = figures.setting("net"), figures.path.parent
    named = [folder / f"unet_{net}.safetensors", *sorted(folder.glob(f"unet_*{net}*"))]
    return next((path for path in named if path.is_file()), None) or _missing(
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


def computed(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """What a SwinIR computes instead of learning, at the sizes that the shapes tell."""
    found = {}
    for name, (first, *others) in shapes.items():
        kind = name.rpartition(".")[2]
        if kind not in ("relative_position_index", "attn_mask"):
            continue
        window = round(others[0] ** 0.5)
        size = window * round(first**0.5) if kind == "attn_mask" else window * 2
        probe = SwinIR(img_size=size, window_size=window, embed_dim=6, depths=[2], num_heads=[1])
        buffers = probe.state_dict().items()
        found[name] = next(tensor for key, tensor in buffers if key.endswith(kind))
    return found


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def difference(a: Tensor, b: Tensor) -> float:
    return largest(a.double() - b.double()) if a.shape == b.shape else float("inf")


def _missing(what: str):
    raise NotUnderstoodError(f"there is no {what}")


def checks_of(path: Path, seed: int | None) -> Iterator[Check]:
    """The comparisons that a file is for.

    Args:
        path: of the file.
        seed: of the weights; None for the one in the file's metadata, else 0.

    Raises:
        NotUnderstoodError: if there are none.
    """
    if path.suffix == ".json":
        formats = json.loads(path.read_text(encoding="utf-8"))
        if bfrffusion.is_checkpoint(formats):
            yield from bfrffusion.check_checkpoint(path, seed or 0)
        else:
            yield from check_formats(formats, seed or 0)
        return
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    seed = int(metadata.get("seed", 0)) if seed is None else seed
    figures, names = Figures(path, tensors, metadata, seed), tensors.keys()
    if bfrffusion.has_figures(set(names)):
        yield from bfrffusion.check_figures(path, tensors, metadata, seed)
    elif names >= {"x", "t", "output"}:
        yield from check_unet(figures)
    elif names >= {"reference", "noise", "initial", "samples", "final"}:
        yield from check_sampler(figures)
    elif names >= {"input", "output"}:
        yield from check_restorer(figures)
    elif any(name.endswith(".input") for name in names):
        yield from check_lowpass(figures)
    else:
        _missing(f"check for {', '.join(sorted(names))}")


@torch.no_grad()
def check_folder(folder: Path, seed: int | None = None) -> bool:
    """Checks every file of figures in a folder, and prints what it finds.

    Returns:
        Whether there was a file, and all were understood and within tolerance.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json"))
    if not files:
        print(f"There are no figures in {folder}.")
    good = bool(files)
    for path in files:
        print(path.name)
        try:
            for what, error, tolerance in checks_of(path, seed):
                passed = error <= tolerance  # NaN does not pass
                good = good and passed
                verdict = "ok" if passed else "BEYOND"
                print(f"  {what:64} {error:10.2e}  of {tolerance:.0e}  {verdict}")
        except Exception as error:  # whatever a file can hold: the others are checked too
            good = False
            print(f"  NOT UNDERSTOOD: {type(error).__name__}: {error}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, help="of the weights; the file's own, else 0")
    args = parser.parse_args()
    if not args.folder.is_dir():
        parser.error(f"{args.folder} is no folder")
    sys.exit(0 if check_folder(args.folder, args.seed) else 1)


if __name__ == "__main__":
    main()
