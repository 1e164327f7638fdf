"""Steps a second and peak memory of fine-tuning, against a plain float32 loop in one run.

    python -m benchmarks.finetuning [--restorer FILE] [--patch 128] [--batch 4]
                                    [--steps 6] [--precisions float32 bfloat16]
                                    [--adapter-ranks 16]
                                    [--quick] [--device cpu] [--threads N] [--json FILE]

The baseline is the loop that anyone would write: the whole batch at once, in float32, from
memory, with nothing read, scored, checked or written. Ours is `bfr.finetune.loop` itself on a
pairs folder of noise. A step's time is the median of those after the first: of the wall's clock,
or with one thread of a CPU that of its own work. Each case runs in a process of its own, so that
its peak memory is its own: on a CPU what it is above that with the restorer loaded, on a GPU that
of all tensors. Random weights or noise instead of faces change neither.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from bfr.errors import CancelledError
from bfr.finetune.loop import finetune
from bfr.finetune.losses import make_objective
from bfr.finetune.objective import Batch
from bfr.finetune.settings import PRESETS, FinetuneSettings, preset_for
from bfr.pairs.folder import read_pairs
from bfr.pairs.writer import PairWriter, write_pair
from bfr.quality.perceptual import load_distance
from bfr.restore.load import load_restorer

from .measure import clock_for

_PAIRS = 12
Figures = tuple[float, float]
"""Seconds a step, and the peak memory in MB."""


class Clock:
    """Times steps and remembers how much memory there was before them."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.start = device, _resident()
        self.now = clock_for(threads) if device == "cpu" else time.perf_counter
        self.ticks = [self.now()]

    def tick(self) -> None:
        """A step is done."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        self.ticks.append(self.now())

    def figures(self) -> Figures:
        if self.device == "cpu":
            memory = _resident() - self.start
        else:
            memory = torch.cuda.max_memory_allocated(self.device) / 2**20
        return statistics.median(b - a for a, b in pairwise(self.ticks[1:])), memory


def plain_loop(
    path: Path | None, settings: FinetuneSettings, size: int, device: str
) -> Callable[[], None]:
    """A step of the baseline, to be called again and again."""
    restorer = load_restorer(path)
    restorer.to(device).network.train()
    objective = make_objective(restorer, settings, load_distance("pyramid"), device, 0)
    critic = objective.discriminator
    networks = [objective.parameters(), *([list(critic.parameters())] if critic else [])]
    optimizers = [torch.optim.AdamW(parameters, settings.lr) for parameters in networks]
    side = settings.patch or size
    lq, target = (torch.rand(settings.batch, 3, side, side, device=device) for _ in range(2))
    guess = torch.rand(settings.batch, 3, size, size, device=device)
    batch = Batch(lq, target, None, guess, torch.zeros(settings.batch, 2, dtype=torch.long))

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        terms, restored = objective.terms(batch)
        torch.stack(list(terms.values())).sum().backward()
        if restored is not None and critic is not None:
            wrong = objective.critic_terms(batch, restored)
            torch.stack(list(wrong.values())).sum().backward(inputs=networks[1])
        for optimizer in optimizers:
            optimizer.step()

    return step


def plain_case(
    path: Path | None, settings: FinetuneSettings, size: int, device: str, threads: int
) -> Figures:
    """The baseline."""
    torch.set_num_threads(threads)
    clock = Clock(device, threads)
    step = plain_loop(path, settings, size, device)
    for _ in range(settings.steps):
        step()
        clock.tick()
    return clock.figures()


def tuned_case(
    path: Path | None, settings: FinetuneSettings, size: int, device: str, threads: int
) -> Figures:
    """The loop of the package, from the end of the first validation to the last step."""
    torch.set_num_threads(threads)
    restorer, clock, last = load_restorer(path), Clock(device, threads), 0

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        nonlocal last
        if preview is not None and done == 0:
            clock.ticks = [clock.now()]
        if done > last:
            last = done
            clock.tick()
        if done == total:
            raise CancelledError("the rest is not timed")

    with tempfile.TemporaryDirectory() as folder:
        pairs = read_pairs(noise_pairs(Path(folder) / "pairs", size))
        finetune(restorer, pairs, Path(folder) / "run", settings, device=device, on_step=on_step)
    return clock.figures()


def noise_pairs(folder: Path, size: int, count: int = _PAIRS) -> Path:
    """A finished pairs folder of noise."""
    random = torch.Generator().manual_seed(0)
    with PairWriter(folder) as writer:
        for number in range(count):
            lq, guess, target = torch.rand(3, 1, 3, size, size, generator=random)
            write_pair(writer, f"face-{number}", lq, guess, target)
    return folder


def ways(
    settings: FinetuneSettings, precisions: Sequence[str], ranks: Sequence[int] = ()
) -> dict[str, FinetuneSettings]:
    """The variants of ours that are measured, by name."""
    whole = replace(settings, micro_batch=settings.batch)
    found = {
        "ours, the whole batch at once": whole,
        f"ours, micro-batches of {settings.micro_batch}": settings,
        "ours, micro-batches of 1": replace(settings, micro_batch=1),
        "ours, at once, checkpointing": replace(whole, checkpointing=True),
        "ours, 1 at a time, checkpointing": replace(settings, micro_batch=1, checkpointing=True),
        "ours, without the adversarial loss": replace(settings, adversarial=0.0),
    }
    for precision in precisions:
        if precision != "float32":
            found[f"ours, the whole batch at once, {precision}"] = replace(
                whole, precision=precision
            )
    for rank in ranks:
        name = f"ours, the whole batch at once, rank {rank}"
        found[name] = replace(whole, adapter_rank=rank)
    return found


def run_case(
    case: Callable[..., Figures],
    path: Path | None,
    way: FinetuneSettings,
    size: int,
    device: str,
    threads: int,
) -> Figures:
    """The figures of a case, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(case, path, way, size, device, threads).result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--restorer", type=Path, help="weights; default: the embedded ones")
    parser.add_argument("--patch", type=int, help="default: whole faces")
    parser.add_argument("--batch", type=int, help="default: the preset's")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--adapter-ranks", nargs="+", type=int, default=[])
    parser.add_argument("--quick", action="store_true", help="only the loop in each precision")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    restorer = load_restorer(args.restorer)
    size = restorer.size or 512
    preset = PRESETS[preset_for(restorer)]
    batch = args.batch or preset.batch
    settings = replace(
        preset,
        steps=args.steps,
        batch=batch,
        micro_batch=max(batch // 2, 1),
        patch=args.patch,
        distance="pyramid",
        precision="float32",
    )
    found = ways(settings, args.precisions, args.adapter_ranks)
    if args.quick:
        found = {name: way for name, way in found.items() if "whole batch" in name}
    cases = {"plain float32 loop": (plain_case, settings)}
    cases |= {name: (tuned_case, way) for name, way in found.items()}
    rows: dict[str, Figures] = {}
    print(f"{'':40}{'steps/s':>9}{'MB':>8}{'speed':>8}{'memory':>8}")
    for name, (case, way) in cases.items():
        rows[name] = run_case(case, args.restorer, way, size, args.device, args.threads)
        (seconds, memory), (base, most) = rows[name], rows["plain float32 loop"]
        print(
            f"{name:40}{1 / seconds:9.3f}{memory:8.0f}{base / seconds:8.2f}{memory / most:8.2f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


def _resident() -> float:
    """The most memory that this process had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
