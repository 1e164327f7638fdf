"""Recipe of the network that finds scratches: a small U-Net, from photographs to a file.

    python -m recipes.scratches train DATA RUN [--minutes M] [--bfloat16]
    python -m recipes.scratches evaluate DATA [RUN] [--grid FOLDER]
    python -m recipes.scratches export RUN weights/scratches.safetensors

Scratches, folds, tears, dust and fibres (`recipes.scratch_shapes`) are drawn afresh over patches of
real photographs at many sizes; before and after that, the patch is blurred, printed in grey, given
grain and compressed, as prints and scans are. Some patches stay whole, and some have a frame or
writing, so that hair, wires, edges and letters count as photograph. Old scans have scratches that
nobody marked: what is found there costs little. The loss is the binary cross-entropy and a soft
1 − Dice. The photographs of `eval/hq` are held out.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.restore.scratch_network import STEP, ScratchNetwork
from bfr.restore.scratches import (
    ScratchFinder,
    as_finder,
    load_scratch_finder,
    mark,
    scratch_probabilities,
)

from .frame import (
    Commands,
    half_precision,
    load_average,
    load_batches,
    pick_device,
    resume,
    train_for,
    weights_of,
    write_weights,
)
from .grids import worst_first, write_versions
from .scratch_samples import PATCH, Scratched, as_picture, read
from .scratch_shapes import KINDS, put_scratches

log = logging.getLogger(__name__)
VAIN = 0.7  # the weight of what is found in vain, beside what is missed
SHOWN = 256  # pixels of a held-out photograph in a sheet
SENSITIVITIES = (0.3, 0.5, 0.7)


def scratch_loss(logits: Tensor, found: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy, and 1 − the Tversky index (Salehi et al. 2017) over the batch.

    What is found in vain costs more than what is missed.
    """
    errors = F.binary_cross_entropy_with_logits(logits, found, weights)
    there, wanted = logits.sigmoid() * weights, found * weights
    shared = (there * found).sum()
    vain, missed = there.sum() - shared, (wanted * (1 - logits.sigmoid())).sum()
    index = (shared + 1) / (shared + VAIN * vain + (1 - VAIN) * missed + 1)
    return 2 * errors + 0.5 * (1 - index)


def train(data: Path, run: Path, args: argparse.Namespace) -> None:
    """Trains until the run's minutes are over, following a cosine over exactly that time."""
    device = pick_device()
    network, average = ScratchNetwork().to(device), ScratchNetwork().to(device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.01)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer}
    start = None if args.start is None else lambda: weights_of(args.start)
    step, spent = resume(run, parts, start)
    average.eval()
    loader = load_batches(Scratched(data, step, args.patch), args.batch, args.workers)

    def loss_of(batch: list[Tensor]) -> Tensor:
        pixels, found, weights = (images.to(device) for images in batch)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with half_precision(device, args.bfloat16):
            logits = network(pixels)
        return scratch_loss(logits.float(), found, weights)

    limits = {"step": step, "spent": spent, "minutes": args.minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 100, "decay": 0.998, "clip": 1.0, "every": 100}
    train_for(run, parts, loader, loss_of, **limits, **rates)


def held_out(
    data: Path, every: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The photographs of `eval/hq` as a print and scan, scratched, and what is to be found."""
    for number, path in enumerate(sorted((data / "eval/hq").iterdir())[::every]):
        rng = np.random.default_rng([5, number])
        photograph = read(path)
        size = 1.5 if number % 2 else 1.0
        large = cv2.resize(photograph, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)
        whole = as_picture(large.clip(0, 1), rng)
        scratched, found, unsure = put_scratches(whole, rng)
        yield whole, as_picture(scratched, rng, soft=0.7), found, unsure


def evaluate(data: Path, run: Path | None, grid: Path | None, every: int) -> None:
    """Logs what is found of scratches on held-out photographs, and on them without scratches.

    What lies within two pixels of a scratch is no false alarm, and what has a found pixel within
    two pixels was found. The sheet shows photographs, scratches and what was found, worst first.
    """
    finder = load_scratch_finder() if run is None else as_finder(_average_of(run))
    figures: dict[float, list[tuple[float, ...]]] = {each: [] for each in SENSITIVITIES}
    cells: list[list[Tensor]] = [[], [], []]
    for whole, scratched, found, unsure in held_out(data, every):
        images = [_as_image(scratched), _as_image(whole)]
        seen = [scratch_probabilities(image, finder) for image in images]
        for sensitivity, rows in figures.items():
            mask, wrong = (
                mark(each, image, sensitivity)[0, 0].numpy()
                for each, image in zip(seen, images, strict=True)
            )
            rows.append((*compared(mask, found, unsure), 100 * float(wrong.mean())))
            if sensitivity == 0.5:
                for cell, shown in zip(cells, (scratched, found, mask), strict=True):
                    cell.append(_cell(shown))
    for sensitivity, rows in figures.items():
        mean, median = np.nanmean(rows, 0), np.nanmedian(rows, 0)
        log.info(
            "sensitivity %.1f: IoU %.3f (median %.3f), precision %.3f, recall %.3f; without "
            "scratches %.3f %% of the area (median %.3f)",
            *(sensitivity, mean[0], median[0], mean[1], mean[2], mean[3], median[3]),
        )
    for name in KINDS:
        log.info("  %-8s recall %.3f", name, _recall_of(data, name, finder, every))
    if grid is not None:
        quality = torch.tensor([row[0] for row in figures[0.5]]).nan_to_num(1.0)
        shown = worst_first(quality)
        versions = [torch.stack(cell)[shown] for cell in cells]
        titles = ("scratched", "scratches", "found")
        write_versions(grid / "scratches.png", versions, titles, across=3)


def compared(mask: np.ndarray, found: np.ndarray, unsure: np.ndarray) -> tuple[float, ...]:
    """IoU, precision and recall of a mask; NaN where there is nothing to be found."""
    if not found.any():
        return (np.nan, np.nan, np.nan)
    near = np.ones((5, 5), np.uint8)
    sure = mask & ~unsure
    iou = (sure & found).sum() / (sure | found).sum()
    around = cv2.dilate((found | unsure).astype(np.uint8), near) > 0
    seen = cv2.dilate(mask.astype(np.uint8), near) > 0
    precision = (mask & around).sum() / mask.sum() if mask.any() else 1.0
    return float(iou), float(precision), float((seen & found).sum() / found.sum())


def _recall_of(data: Path, kind: str, finder: ScratchFinder, every: int) -> float:
    """The share of pixels that is found of one kind, on half of the photographs."""
    shares = []
    for number, path in enumerate(sorted((data / "eval/hq").iterdir())[:: 2 * every]):
        rng = np.random.default_rng([9, number])
        scratched, found, unsure = put_scratches(read(path), rng, most=2, only=kind)
        image = _as_image(scratched)
        mask = mark(scratch_probabilities(image, finder), image)[0, 0].numpy()
        shares.append(compared(mask, found, unsure)[2])
    return float(np.nanmean(shares))


def _as_image(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _cell(picture: np.ndarray) -> Tensor:
    """The middle of a picture or mask, 3×S×S."""
    height, width = (max(0, (length - SHOWN) // 2) for length in picture.shape[:2])
    part = picture[height : height + SHOWN, width : width + SHOWN]
    if part.ndim == 2:
        part = np.repeat(part[..., None], 3, 2)
    part = cv2.resize(part.astype(np.float32), (SHOWN, SHOWN), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(part).permute(2, 0, 1)


def _average_of(run: Path) -> ScratchNetwork:
    return load_average(run, ScratchNetwork())


def export(run: Path, file: Path) -> None:
    """Writes the averaged network in half precision."""
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in _average_of(run).state_dict().items()
    }
    write_weights(file, state, "scratches", architecture="ScratchNetwork", step=STEP)


def main(arguments: Sequence[str] | None = None) -> None:
    commands = Commands(__doc__)
    one = commands.add_training("train", "data", "run", minutes=50, batch=8, lr=2e-3)
    one.add_argument("--start", type=Path, help="a run to go on from")
    one.add_argument("--patch", type=int, default=PATCH)
    commands.add_speed(one)
    one = commands.add("evaluate", "data", "run?")
    one.add_argument("--grid", type=Path)
    one.add_argument("--every", type=int, default=2, help="look at every such photograph")
    commands.add("export", "run", "file")
    args = commands.parse(arguments)
    if args.command == "train":
        train(args.data, args.run, args)
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.grid, args.every)
    else:
        export(args.run, args.file)


if __name__ == "__main__":
    main()
