"""Seconds and peak memory of whole photographs from file to file: a table for the documentation.

    python -m benchmarks.whole [--megapixels 2 24]

A photograph holds eight portraits 400 pixels wide on a grainy ground, and is a JPEG. It is restored
as `python -m bfr restore` does it, at its size and enlarged, with and without its background, on
one thread, each time in a process of its own. Seconds are the thread's own work; memory is all that
the process took.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bfr
from bfr.restore.photo_file import restore_file
from bfr.restore.settings import RestoreSettings
from bfr.runtime.side_by_side import in_order

from .measure import in_own_process

SAMPLE = Path(__file__).parents[1] / "samples" / "grace_hopper.jpg"
PORTRAITS, WIDTH = (4, 2), 400  # across and down; pixels of each
GRAIN = 6.0  # levels


def photograph(megapixels: float, path: Path) -> None:
    """Writes a 3:2 photograph with portraits."""
    width = round((1.5e6 * megapixels) ** 0.5)
    height = round(width / 1.5)
    ground = np.random.default_rng(0).normal(120, GRAIN, (height, width, 3))
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    with Image.open(SAMPLE) as sample:
        portrait = sample.convert("RGB").resize((WIDTH, WIDTH * sample.height // sample.width))
    across, down = PORTRAITS
    for n in range(across * down):
        x, y = n % across * width // across, n // across * height // down
        image.paste(portrait, (x, y))
    image.save(path, quality=92)


def case(path: Path, enlarge: int, background: float) -> Callable[[], None]:
    """Restores the file; its networks are loaded before."""
    detector, restorer, identity = bfr.load_detector(), bfr.load_restorer(), bfr.load_identity()
    settings = RestoreSettings(enlarge=enlarge, background=background, grain=0.5)

    def run() -> None:
        target = path.with_name("restored.jpg")
        done = restore_file(path, target, detector, restorer, settings, identity=identity)
        print(f"  {path.stem} MP: {done.told}", flush=True)

    return run


def album_case(count: int, at_once: int) -> Callable[[], None]:
    """Photographs of eight faces, from file to file; those at once share the threads."""
    folder = tempfile.TemporaryDirectory()
    for number in range(count):
        photograph(2, Path(folder.name) / f"{number}.jpg")
    detector, restorer = bfr.load_detector(), bfr.load_restorer()
    torch.set_num_threads(torch.get_num_threads() // at_once)

    def one(path: Path) -> None:
        done = path.with_name(f"done-{path.name}")
        restore_file(path, done, detector, restorer, RestoreSettings(enlarge=1))

    def run() -> None:
        for _ in in_order(sorted(Path(folder.name).glob("[0-9]*")), one, at_once):
            pass

    return run


def rows(megapixels: list[float]) -> Iterator[str]:
    """The table's rows, in Markdown."""
    yield "| megapixels | enlarged | background | seconds | peak, GB |"
    yield "|--:|--:|---|--:|--:|"
    with tempfile.TemporaryDirectory() as folder:
        for size in megapixels:
            path = Path(folder) / f"{size:g}.jpg"
            photograph(size, path)
            for enlarge in (1, 2):
                for background in (0.0, 0.5):
                    cleaned = "cleaned" if background else ""
                    settings = (path, enlarge, background)
                    seconds, memory = in_own_process(case, settings, 1, 1, whole=True)
                    figures = f"{seconds:.1f} | {memory / 1e3:.2f}"
                    yield f"| {size:g} | {enlarge}× | {cleaned} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megapixels", type=float, nargs="+", default=[2, 24])
    for row in rows(parser.parse_args().megapixels):
        print(row, flush=True)


if __name__ == "__main__":
    main()
