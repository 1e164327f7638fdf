"""Recipe of the embedded restorer of whole pictures: a small NAFNet against noise, grain and JPEG.

    python -m recipes.background prepare DATA SQUARES [--more FOLDER]
    python -m recipes.background train SQUARES RUN [--minutes M] [--bfloat16]
    python -m recipes.background evaluate DATA RUN [--more FOLDER] [--grid FILE.png]
    python -m recipes.background export RUN weights/background.safetensors

`prepare` cuts squares out of whole photographs, reduced until their own JPEG is gone, and of the
photographs that scikit-image ships. Pairs are drawn afresh: a square, at times grey or faded, and
the same with the damages of the face restorer (`bfr.damage`) in milder ranges, told in pixels of
the picture. One square in seven stays as it is, so that clean photographs are left alone. The loss
is the face restorer's.

A NAFNet weighs its channels by their means over the whole picture, which would make a tile depend
on where it was cut. Here those weights learn no means (`make_local`): what a pixel becomes depends
on at most `bfr.restore.background.REACH` pixels around it.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from bfr.damage.degrade import NO_DAMAGE, Degradation, degrade_faces
from bfr.damage.prints import age_print
from bfr.image.tensors import luma
from bfr.quality.likeness import psnr, ssim
from recipes.squares import SQUARE, held_out_squares, prepare

from .frame import (
    Commands,
    half_precision,
    load_average,
    load_batches,
    pick_device,
    resume,
    train_for,
    write_weights,
)
from .grids import worst_first, write_versions
from .restorer_losses import restoration_loss

log = logging.getLogger(__name__)
NETWORK = {"width": 16, "enc_blk_nums": [1, 1, 2], "middle_blk_num": 4, "dec_blk_nums": [1, 1, 1]}
SHIPPED_SHARE = 0.4  # of the squares drawn, as they have what portraits lack
CLEAN, GREY, FADED = 0.15, 0.3, 0.25


@dataclass(frozen=True, slots=True)
class Kind:
    """A damage in pixels of the picture, and how often it is drawn."""

    share: float
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[float, float] | None = None
    blur: tuple[float, float] = (0.0, 0.0)
    smaller: tuple[float, float] = (0.0, 0.0)  # 0 leaves the size
    grain: float = 0.0
    iso: tuple[float, float] = (0.0, 0.0)

    def ranges(self, side: int) -> Degradation:
        """The same, in units of a 512 px face, for squares of a side."""
        unit = 512 / side
        blur, smaller = ((unit * low, unit * high) for low, high in (self.blur, self.smaller))
        return replace(
            NO_DAMAGE,
            **{"blur": blur, "downscale": smaller, "noise": self.noise, "jpeg": self.jpeg},
            **{"grain": self.grain, "iso": self.iso},
        )


KINDS = {
    "noise": Kind(0.2, noise=(1.0, 30.0), grain=0.4),
    "jpeg": Kind(0.2, noise=(0.0, 2.0), jpeg=(20.0, 95.0)),
    "noise and jpeg": Kind(0.15, noise=(2.0, 20.0), jpeg=(40.0, 95.0), grain=0.5),
    "camera": Kind(0.15, iso=(200.0, 3000.0), jpeg=(75.0, 100.0)),
    "scan": Kind(0.3, (2.0, 20.0), (50.0, 97.0), blur=(0.0, 0.8), smaller=(1.0, 2.0), grain=0.9),
}
TESTS = {
    "clean": None,
    **{f"noise {s}": Kind(1, noise=(s, s)) for s in (5, 15, 25)},
    **{f"grain {s}": Kind(1, noise=(s, s), grain=1.0) for s in (8, 15)},
    **{f"JPEG {q}": Kind(1, jpeg=(q, q)) for q in (90, 75, 50, 30)},
    **{f"camera ISO {iso}": Kind(1, iso=(iso, iso), jpeg=(90, 90)) for iso in (800, 3000)},
    "scan": Kind(1, (10, 10), (70, 70), blur=(0.4, 0.4), smaller=(1.5, 1.5), grain=1.0),
}


def build_background() -> nn.Module:
    """The network with random weights, made local."""
    from spandrel.architectures.NAFNet import NAFNet

    network = NAFNet(**NETWORK)
    make_local(network)
    return network


def make_local(network: nn.Module) -> None:
    """Takes the means over the picture out of a NAFNet's channel weights, for good."""
    for name, parameter in network.named_parameters():
        if name.endswith("sca.1.weight"):
            parameter.requires_grad_(False).zero_()
        elif name.endswith("sca.1.bias"):
            nn.init.ones_(parameter)


class Pairs(IterableDataset):
    """Endless (damaged, clean) patches 3×P×P in [0, 1]."""

    def __init__(self, squares: Path, patch: int, seed: int):
        self.squares, self.patch, self.seed = squares, patch, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        pixels = np.load(self.squares / "squares.npy", mmap_mode="r")
        varied = json.loads((self.squares / "squares.json").read_text())["varied"]
        while True:
            first, last = (0, varied) if rng.random() < SHIPPED_SHARE else (varied, len(pixels))
            drawn = torch.from_numpy(np.array(pixels[rng.integers(first, max(last, first + 1))]))
            clean = turned(drawn.permute(2, 0, 1)[None].float() / 255, rng)
            damaged, clean = damage(clean, rng)
            # Cut out behind the damage: the blocks of a JPEG begin anywhere, as in a tile.
            y, x = rng.integers(0, SQUARE - self.patch + 1, 2)
            window = (0, slice(None), slice(y, y + self.patch), slice(x, x + self.patch))
            yield damaged[window], clean[window]


def turned(square: Tensor, rng: np.random.Generator) -> Tensor:
    """A square mirrored or on its side, at random."""
    square = square.flip(-1) if rng.random() < 0.5 else square
    return square.mT if rng.random() < 0.5 else square


def damage(clean: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A square 1×3×S×S, damaged or not, and its target, which keeps its tones."""
    if rng.random() < GREY:
        clean = luma(clean).expand(-1, 3, -1, -1)
    if rng.random() < FADED:
        clean = age_print(clean, rng.uniform(0, 0.4), rng.uniform(0, 0.5))
    if rng.random() < CLEAN:
        return clean, clean
    names = list(KINDS)
    kind = KINDS[names[rng.choice(len(names), p=[kind.share for kind in KINDS.values()])]]
    damaged = degrade_faces(clean, kind.ranges(clean.shape[-1]), int(rng.integers(2**31)))
    return damaged, clean


def train(squares: Path, run: Path, args: argparse.Namespace) -> None:
    """Trains until the run's minutes are over, following a cosine over exactly that time."""
    device = pick_device()
    network, average = build_background().to(device), build_background().to(device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, (0.9, 0.9), weight_decay=0)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer}
    step, spent = resume(run, parts)
    loader = load_batches(Pairs(squares, args.patch, step), args.batch, args.workers)

    def loss_of(batch: list[Tensor]) -> Tensor:
        damaged, clean = (images.to(device) for images in batch)
        damaged = damaged.contiguous(memory_format=torch.channels_last)
        with half_precision(device, args.bfloat16):
            restored = network(damaged)
        return restoration_loss(restored.float(), clean)

    limits = {"step": step, "spent": spent, "minutes": args.minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 100, "decay": 0.999, "clip": 0.5, "every": 100}
    train_for(run, parts, loader, loss_of, **limits, **rates)


@torch.no_grad()
def evaluate(data: Path, run: Path | None, more: Path | None, grid: Path | None) -> None:
    """Logs by damage how near to clean the held-out pictures come; draws 24 scans as a grid."""
    from bfr.restore.background import load_background

    network = load_average(run, build_background()) if run else load_background().network
    for source, clean in held_out_squares(data, more).items():
        log.info("%s: %d squares of %d pixels", source, len(clean), SQUARE)
        for name, kind in TESTS.items():
            damaged = degrade_faces(clean, kind.ranges(SQUARE), 7) if kind else clean
            restored = torch.cat([network(part) for part in damaged.split(4)]).clamp(0, 1)
            before, after = psnr(damaged, clean), psnr(restored, clean)
            alike = [ssim(images, clean).mean() for images in (damaged, restored)]
            # A clean picture measures infinity before: what counts is what is left of it.
            gain = after if kind is None else after - before
            log.info(
                "  %-16s %.2f dB, restored %.2f dB, gain %.2f (worst %.2f), SSIM %.3f to %.3f",
                *(name, before.mean(), after.mean(), gain.mean(), gain.min(), *alike),
            )
            if grid is not None and name == "scan":
                shown, titles = worst_first(gain), ("damaged", "restored", "clean")
                versions = [images[shown] for images in (damaged, restored, clean)]
                write_versions(grid.with_stem(f"{grid.stem}_{source}"), versions, titles, across=3)


def export(run: Path, file: Path) -> None:
    """Writes the averaged network in half precision."""
    state = load_average(run, build_background()).half().state_dict()
    write_weights(file, state, "background", architecture="NAFNet", config=json.dumps(NETWORK))


def main(arguments: Sequence[str] | None = None) -> None:
    commands = Commands(__doc__)
    made = commands.add("prepare", "data", "squares")
    training = commands.add_training("train", "squares", "run", minutes=30, batch=8, lr=1e-3)
    training.add_argument("--patch", type=int, default=128)
    commands.add_speed(training)
    judged = commands.add("evaluate", "data", "run?")
    judged.add_argument("--grid", type=Path)
    for one in (made, judged):
        one.add_argument("--more", type=Path, help="a folder of further clean photographs")
    commands.add("export", "run", "file")
    args = commands.parse(arguments)
    if args.command == "prepare":
        prepare(args.data, args.squares, args.more)
    elif args.command == "train":
        train(args.squares, args.run, args)
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.more, args.grid)
    else:
        export(args.run, args.file)


if __name__ == "__main__":
    main()
