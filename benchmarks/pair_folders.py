"""Pairs folders of faces in memory, for benchmarks and tests."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from bfr.pairs.folder import PairSet, read_pairs
from bfr.pairs.writer import PairWriter, write_pair


def write_pairs(folder: Path, lq: Tensor, guess: Tensor, target: Tensor) -> PairSet:
    """A finished pairs folder of these images, each N×3×S×S RGB in [0, 1]."""
    with PairWriter(folder) as writer:
        for number, images in enumerate(
            zip(*(x.split(1) for x in (lq, guess, target)), strict=True)
        ):
            name = f"face-{number}"
            write_pair(writer, name, *images, source=f"{name}.jpg", source_sha256="0" * 64)
    return read_pairs(folder)
