"""Recipe of the embedded restorer: a small NAFNet for 256 px faces, from the data folder to a file.

    python -m recipes.aligned DATA FACES                     align the portraits at 256 px
    python -m recipes.restorer train FACES RUN [--minutes M] [--patch P] [--start START]
    python -m recipes.restorer finish FACES RUN START [--minutes M]
    python -m recipes.restorer evaluate DATA RUN [--grid FILE.png]
    python -m recipes.restorer export RUN weights/restorer.safetensors

NAFNet (Chen et al., 2022) adds its output to its input, so it begins as the identity and learns
only the repair. Pairs are drawn afresh (`restorer_pairs.py`): an aligned face, damaged in GFPGAN's
ranges (`bfr.damage.degrade`), in those of old prints, or coarsely printed or strongly blurred.
Training resumes from RUN by itself; the loss is L1, in which the eyes and the mouth count more,
plus 0.05 × L1 of the spectrum, which keeps edges that plain L1 averages away. On whole faces
(``--patch 256``) two terms join: how different they look, and how far the person is from the
clean face's by the embedded recognition network. ``--start`` goes on from a run or a weights file.
`finish` goes on from START against an adversary (`DetailDiscriminator`): what errors alone leave
soft becomes crisp.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bfr.damage.degrade import degrade_faces
from bfr.faces.identity import identity_distance, load_identity
from bfr.faces.retinaface import load_detector
from bfr.finetune.discriminator import DetailDiscriminator, balanced
from bfr.finetune.half_blocks import quicken
from bfr.image.tensors import luma
from bfr.quality.likeness import psnr
from bfr.quality.niqe import niqe
from bfr.quality.perceptual import pyramid_distance
from bfr.quality.texture import sharpness

from .aligned import SIZE, held_out_faces
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
from .groups import by_group
from .matrices import MatrixOptimizer
from .restorer_losses import critic_loss, restoration_loss, whole_face_loss
from .restorer_pairs import DAMAGE, Pairs

log = logging.getLogger(__name__)
NETWORK = {
    "width": 16,
    "enc_blk_nums": [1, 2, 4, 4, 2],
    "middle_blk_num": 1,
    "dec_blk_nums": [1, 3, 3, 2, 1],
}
CRITIC_FIRST = 100  # steps in which the adversary's share rises to its full


def build_restorer() -> nn.Module:
    """The embedded restorer's network with random weights."""
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(**NETWORK)


def train(faces: Path, run: Path, args: argparse.Namespace, adversary: bool = False) -> None:
    """Trains until the run's minutes are over, following a cosine over exactly that time.

    Args:
        faces: of `recipes.aligned`.
        run: the folder to resume from and save to.
        args: of the command line.
        adversary: whether a critic learns, too, and asks for crispness.
    """
    device = pick_device()
    network, average = build_restorer().to(device), build_restorer().to(device)
    quicken(network)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = MatrixOptimizer(network, args.lr)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer}
    if adversary:
        critic = DetailDiscriminator().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        critic_optimizer = torch.optim.Adam(critic.parameters(), args.critic_lr, (0.0, 0.99))
        parts |= {"critic": critic, "critic_optimizer": critic_optimizer}
    start = None if args.start is None else lambda: weights_of(args.start)
    step, spent = resume(run, parts, start)
    loader = load_batches(Pairs(faces, args.patch, step), args.batch, args.workers)
    identity = load_identity() if args.patch == SIZE else None
    if identity is not None:
        identity.network.to(device)

    def errors(restored: Tensor, clean: Tensor) -> Tensor:
        if identity is None:
            return restoration_loss(restored, clean)
        return whole_face_loss(restored, clean, identity)

    def loss_of(batch: list[Tensor]) -> Tensor:
        damaged, clean = (images.to(device) for images in batch)
        damaged = damaged.contiguous(memory_format=torch.channels_last)
        with half_precision(device, args.bfloat16):
            restored = network(damaged)
        restored = restored.float()
        wrong = errors(restored, clean)
        if not adversary:
            return wrong
        critic_optimizer.zero_grad()
        with half_precision(device, args.bfloat16):
            loss = critic_loss(critic, clean, restored)
        loss.backward()
        critic_optimizer.step()
        learned.append(loss.item())
        if len(learned) % 50 == 0:
            log.info("critic %.3f", sum(learned[-50:]) / 50)
        share = args.share * min(1.0, (step + len(learned)) / CRITIC_FIRST)
        with half_precision(device, args.bfloat16):
            return wrong + balanced(restored, wrong, lambda x: -critic(x).mean(), share)

    learned: list[float] = []
    limits = {"step": step, "spent": spent, "minutes": args.minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 100, "decay": 0.999, "clip": 0.5, "every": 100}
    train_for(run, parts, loader, loss_of, **limits, **rates)


@torch.no_grad()
def evaluate(data: Path, run: Path | None, detector_file: Path | None, grid: Path | None) -> None:
    """Logs how far the damaged and restored held-out faces are from clean; draws a grid of 24.

    Each face of the grid is there as damaged, restored and clean; the six that gain least come
    first.
    """
    from bfr.restore.load import load_restorer

    network = load_average(run, build_restorer()) if run is not None else load_restorer().network
    clean, _ = held_out_faces(data, load_detector(detector_file))
    identity = load_identity()
    for name, (damage, _) in DAMAGE.items():
        target = clean if damage.grey < 1 else luma(clean).expand_as(clean)
        damaged = degrade_faces(target, damage, seed=7)
        restored = torch.cat([network(part) for part in damaged.split(4)]).clamp(0, 1)
        before, after = psnr(damaged, target), psnr(restored, target)
        gain = after - before
        log.info(
            "%-10s %d faces: input %.2f dB, restored %.2f dB, gain %.2f (worst %.2f)",
            *(name, len(clean), before.mean(), after.mean(), gain.mean(), gain.min()),
        )
        log.info("  gain by lightness of the skin: %s", by_group(gain, clean))
        for title, images in (("damaged", damaged), ("restored", restored), ("clean", target)):
            apart = torch.cat([pyramid_distance(*p) for p in _fours(images, target)]).mean()
            looks = [torch.cat([f(x) for x in images.split(4)]).mean() for f in (niqe, sharpness)]
            person = identity_distance(images, target, identity)
            log.info(
                "  %-8s pyramid distance %.3f, NIQE %.2f, sharpness %.2f, identity %.3f",
                *(title, apart, *looks, person.mean()),
            )
            if title == "restored":
                log.info("  identity by lightness of the skin: %s", by_group(person, clean))
        if grid is not None and name == "gfpgan":
            shown, titles = worst_first(gain), ("damaged", "restored", "clean")
            versions = [images[shown] for images in (damaged, restored, target)]
            write_versions(grid, versions, titles, across=3)


def _fours(*images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(each.split(4) for each in images), strict=True)


def export(run: Path, file: Path) -> None:
    """Writes the averaged network in half precision."""
    state = load_average(run, build_restorer()).half().state_dict()
    facts = {"architecture": "NAFNet", "config": json.dumps(NETWORK), "size": SIZE}
    write_weights(file, state, "restorer", **facts)


def main(arguments: Sequence[str] | None = None) -> None:
    commands = Commands(__doc__)
    train_command = commands.add_training("train", "faces", "run", minutes=90, batch=8, lr=6e-4)
    finish = commands.add_training("finish", "faces", "run", "start", minutes=30, batch=4, lr=1e-4)
    finish.add_argument("--share", type=float, default=0.5, help="the adversary's pull")
    finish.add_argument("--critic-lr", type=float, default=1e-3)
    train_command.add_argument("--start", type=Path, help="a run or weights file to go on from")
    for one, patch in ((train_command, 128), (finish, 256)):
        one.add_argument("--patch", type=int, default=patch)
        commands.add_speed(one)
    one = commands.add("evaluate", "data", "run?")
    one.add_argument("--detector", type=Path)
    one.add_argument("--grid", type=Path)
    commands.add("export", "run", "file")
    args = commands.parse(arguments)
    if args.command in ("train", "finish"):
        train(args.faces, args.run, args, adversary=args.command == "finish")
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.detector, args.grid)
    else:
        export(args.run, args.file)


if __name__ == "__main__":
    main()
