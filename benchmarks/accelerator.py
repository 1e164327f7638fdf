"""The work on faces on an accelerator, as ratios to the processor and to float32 in the same run.

    python -m benchmarks.accelerator [--device cuda] [--json FILE]

Faces and photographs of noise, as in `benchmarks.speed`; photographs to search, faces to restore
and guesses come from the processor's memory and go back there, as they do in the commands. The
time of tuning is in `benchmarks.finetuning`. With ``--device cpu`` it only shows that it runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.runtime.precision import convert, suited_precision

from .measure import in_own_process
from .sampling import PLAIN, call_case, faces
from .speed import PASTED, SEARCHED, detect_case, ours, paste_case, restore_case, show

_FACES = 16  # that are restored at once
_GUESSES = 4  # that pseudo targets are drawn for at once
_PUBLISHED = 512  # px, of the published prior's faces


def targets_case(precision: str, device: str) -> Callable[[], object]:
    """Pseudo targets by the embedded prior and its defaults."""
    prior = load_prior()
    convert(prior.network, precision, torch.device(device))
    guesses, settings = faces(_GUESSES, prior.size).clamp(0, 1), Guidance().settings(prior)
    return lambda: sample_targets(guesses, prior, settings)


def rows(device: str, threads: int) -> Iterator[dict[str, Any]]:
    """The rows of the table, as `benchmarks.speed` shows them."""
    measured = partial(in_own_process, threads=threads, repeats=3)

    def row(name: str, make: Any, args: Any, other: Any, anchor: str, on: str) -> dict[str, Any]:
        found = measured(make, (*args, device), device=device)
        base = measured(make, (*other, on), device=on)
        return {"work": name, "threads": threads, "ours": found, "other": base, "anchor": anchor}

    half = suited_precision(torch.device(device))
    photo, restored = (ours, PASTED[1]), (_FACES, _FACES)
    large = (SEARCHED[1],)
    yield row(f"align and paste {PASTED[1]}", paste_case, photo, photo, "processor", "cpu")
    yield row(f"detect in {large[0]:g} MP", detect_case, large, large, "processor", "cpu")
    name, auto, exact = f"restore {_FACES} faces", (*restored, "auto"), (*restored, "float32")
    yield row(f"{name}, auto", restore_case, auto, auto, "processor", "cpu")
    yield row(f"{name}, auto", restore_case, auto, exact, "float32", device)
    name = f"{_GUESSES} pseudo targets, {half}"
    yield row(name, targets_case, (half,), ("float32",), "float32", device)
    call, plain = ((way, _PUBLISHED) for way in ((half, True), PLAIN))
    yield row(f"published prior, a call, {half}", call_case, call, plain, "float32", device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    found = show(rows(args.device, args.threads))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
