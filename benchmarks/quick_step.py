"""A step of the quick recipe against a plain float32 loop's, step by step in turns.

Both are those of `benchmarks.finetuning`, in one process, so that both have the machine as it is:
``python -m benchmarks.quick_step [THREADS]`` prints their seconds and the ratio. Timed are steps as
nearly all of a run are, whose guesses were seen before: ours remembers who they show.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from bfr.choices import AUTO
from bfr.errors import CancelledError
from bfr.finetune.loop import finetune
from bfr.finetune.settings import PRESETS
from bfr.pairs.folder import read_pairs
from bfr.restore.load import load_restorer

from .finetuning import Figures, noise_pairs, plain_loop
from .measure import clock_for

_SIZE = 256  # of the embedded restorer's faces
_PAIRS, _TURNS, _FIRST = 2, 10, 3  # after the first turns both pairs were seen, and mirrored ones


def quick_step(threads: int) -> tuple[Figures, Figures]:
    """A step of the quick recipe on the embedded restorer: the baseline's, and ours with "auto"."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_quick_step, threads).result()


def _quick_step(threads: int) -> tuple[Figures, Figures]:
    torch.set_num_threads(threads)
    settings = replace(PRESETS["quick"], steps=_TURNS, distance="pyramid", precision="float32")
    plain = plain_loop(None, settings, _SIZE, "cpu")
    now, times, began = clock_for(threads), ([], []), 0.0

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        nonlocal began
        if done == len(times[0]) + 1:  # and not the call between micro-batches
            times[1].append(now() - began)
            began = now()
            plain()
            times[0].append(now() - began)
            began = now()
        if done == total:
            raise CancelledError("the rest is not timed")
        if not done:
            began = now()

    with tempfile.TemporaryDirectory() as folder:
        pairs = read_pairs(noise_pairs(Path(folder) / "pairs", _SIZE, _PAIRS))
        auto = replace(settings, precision=AUTO)
        finetune(load_restorer(), pairs, Path(folder) / "run", auto, device="cpu", on_step=on_step)
    base, ours = (statistics.median(each[_FIRST:]) for each in times)
    return (base, math.nan), (ours, math.nan)


if __name__ == "__main__":
    (plain, _), (tuned, _) = quick_step(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(f"plain {plain:.3f} s a step, ours {tuned:.3f} s: {plain / tuned:.2f} times as fast")
