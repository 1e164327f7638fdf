"""Recipe of the embedded restorer: a small NAFNet for 256 px faces, from the data folder to a file.

    python -m recipes.aligned DATA FACES                     align the portraits at 256 px
    python -m recipes.restorer train FACES RUN [--minutes M] [--patch P]
    python -m recipes.restorer finish FACES RUN START [--minutes M]
    python -m recipes.restorer evaluate DATA RUN [--grid FILE.png]
    python -m recipes.restorer export RUN weights/restorer.safetensors

NAFNet (Chen et al., 2022) adds its output to its input, so it begins as the identity and learns
only the repair. Pairs are drawn afresh: an aligned face, damaged in GFPGAN's ranges
(`bfr.damage.degrade`). Training resumes from RUN by itself; the loss is L1 plus 0.05 × L1 of the
spectrum, which keeps edges that plain L1 averages away. `finish` goes on from the run START on
whole faces, asking for as much detail as clean ones have, and against an adversary
(`DetailDiscriminator`): what errors alone leave soft becomes crisp.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from bfr.damage.degrade import PRESETS, Degradation, degrade_faces
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import Detector, load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.finetune.discriminator import DetailDiscriminator, balanced
from bfr.quality.likeness import psnr
from bfr.quality.niqe import niqe
from bfr.quality.perceptual import pyramid_distance
from bfr.quality.texture import sharpness

from .aligned import SIZE, draw_faces
from .frame import Commands, load_average, load_state, pick_device, train_for, write_weights
from .grids import worst_first, write_versions
from .groups import by_group

log = logging.getLogger(__name__)
NETWORK = {
    "width": 16,
    "enc_blk_nums": [1, 1, 2, 2, 2],
    "middle_blk_num": 1,
    "dec_blk_nums": [1, 1, 1, 1, 1],
}
OLD_PRINT = Degradation((0.1, 8.0), (0.8, 6.0), (0.0, 25.0), (40.0, 95.0), 1.0, 1.0, (0.0, 0.3))
CRITIC_FIRST = 100  # steps in which the adversary's share rises to its full
DAMAGE = {"gfpgan": (PRESETS["gfpgan"], 0.8), "old print": (OLD_PRINT, 0.2)}


def build_restorer() -> nn.Module:
    """The embedded restorer's network with random weights."""
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(**NETWORK)


class Pairs(IterableDataset):
    """Endless (damaged, clean) patches 3×P×P in [0, 1]."""

    def __init__(self, faces: Path, patch: int, seed: int):
        self.faces, self.patch, self.seed = faces, patch, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        kinds, chances = zip(*DAMAGE.values(), strict=True)
        for face, _ in draw_faces(self.faces, rng):
            clean = face[None]
            kind = kinds[rng.choice(len(kinds), p=chances)]
            damaged = degrade_faces(clean, kind, int(rng.integers(2**31)))
            if kind.grey == 1.0:
                clean = clean.mean(1, keepdim=True).expand(-1, 3, -1, -1)
            y, x = rng.integers(0, SIZE - self.patch + 1, 2)
            window = (..., slice(y, y + self.patch), slice(x, x + self.patch))
            yield damaged[window][0], clean[window][0]


def restoration_loss(restored: Tensor, clean: Tensor) -> Tensor:
    """L1 + 0.05 × L1 of the orthonormal 2-D spectrum."""
    spectrum = torch.view_as_real(torch.fft.rfft2(restored - clean, norm="ortho"))
    return F.l1_loss(restored, clean) + 0.05 * spectrum.abs().mean()


def finishing_loss(restored: Tensor, clean: Tensor) -> Tensor:
    """`restoration_loss` and how different they look, which asks for as much detail as there is.

    To ask for more of it by its local contrast was tried: the network then draws a faint grid on
    smooth skin, which measures better (NIQE) and looks worse.
    """
    return restoration_loss(restored, clean) + 0.2 * pyramid_distance(restored, clean).mean()


def critic_loss(critic: nn.Module, clean: Tensor, restored: Tensor) -> Tensor:
    """The critic's hinge loss (Lim and Ye 2017): 2 when it knows nothing, 0 when all."""
    return F.relu(1 - critic(clean)).mean() + F.relu(1 + critic(restored.detach())).mean()


def train(faces: Path, run: Path, args: argparse.Namespace, start: Path | None = None) -> None:
    """Trains until the run's minutes are over, following a cosine over exactly that time.

    Args:
        faces: of `recipes.aligned`.
        run: the folder to resume from and save to.
        args: of the command line.
        start: the run whose average is finished against an adversary; None trains without one.
    """
    run.mkdir(parents=True, exist_ok=True)
    device = pick_device()
    network, average = build_restorer().to(device), build_restorer().to(device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, (0.9, 0.9), weight_decay=0)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer}
    if start is not None:
        critic = DetailDiscriminator().to(device)
        critic_optimizer = torch.optim.Adam(critic.parameters(), args.critic_lr, (0.0, 0.99))
        parts |= {"critic": critic, "critic_optimizer": critic_optimizer}
    state = load_state(run, parts)
    step, spent = state.get("step", 0), state.get("spent", 0.0)
    if not state:
        if start is not None:
            network.load_state_dict(load_average(start, build_restorer()).state_dict())
        average.load_state_dict(network.state_dict())
    loader = DataLoader(
        Pairs(faces, args.patch, step),
        args.batch,
        num_workers=args.workers,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    forward = torch.compile(network, dynamic=False) if args.compile else network

    def loss_of(batch: list[Tensor]) -> Tensor:
        damaged, clean = (images.to(device) for images in batch)
        damaged = damaged.contiguous(memory_format=torch.channels_last)
        restored = forward(damaged)
        if start is None:
            return restoration_loss(restored, clean)
        critic_optimizer.zero_grad()
        loss = critic_loss(critic, clean, restored)
        loss.backward()
        critic_optimizer.step()
        learned.append(loss.item())
        if len(learned) % 50 == 0:
            log.info("critic %.3f", sum(learned[-50:]) / 50)
        share = args.share * min(1.0, (step + len(learned)) / CRITIC_FIRST)
        return finishing_loss(restored, clean) + balanced(
            restored, lambda x: finishing_loss(x, clean), lambda x: -critic(x).mean(), share
        )

    learned: list[float] = []
    limits = {"step": step, "spent": spent, "minutes": args.minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 100, "decay": 0.999, "clip": 0.5, "every": 100}
    train_for(run, parts, loader, loss_of, **limits, **rates)


def held_out_faces(data: Path, detector: Detector) -> tuple[Tensor, list[str]]:
    """The clean faces of `eval/hq` aligned at 256 px, N×3×256×256, and their names."""
    from bfr.faces.align import align_faces

    crops, names = [], []
    for path in sorted((data / "eval/hq").iterdir()):
        image = read_photo(path).pixels
        found = select_faces(detect_faces(image, detector), sort="score", limit=1)
        if found.count:
            crops.append(align_faces(image, found, SIZE)[0])
            names.append(path.name)
    return torch.cat(crops), names


@torch.no_grad()
def evaluate(data: Path, run: Path | None, detector_file: Path | None, grid: Path | None) -> None:
    """Logs how far the damaged and restored held-out faces are from clean; draws a grid of 24.

    Each face of the grid is there as damaged, restored and clean; the six that gain least come
    first.
    """
    from bfr.restore.restorer import load_restorer

    network = load_average(run, build_restorer()) if run is not None else load_restorer().network
    clean, _ = held_out_faces(data, load_detector(detector_file))
    for name, (damage, _) in DAMAGE.items():
        target = clean if damage.grey < 1 else clean.mean(1, keepdim=True).expand_as(clean)
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
            log.info(
                "  %-8s pyramid distance %.3f, NIQE %.2f, sharpness %.2f", title, apart, *looks
            )
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
    train_command = commands.add_training("train", "faces", "run", minutes=90, batch=8, lr=1e-3)
    finish = commands.add_training("finish", "faces", "run", "start", minutes=90, batch=4, lr=3e-4)
    finish.add_argument("--share", type=float, default=1.0, help="the adversary's pull")
    finish.add_argument("--critic-lr", type=float, default=1e-3)
    for one, patch in ((train_command, 128), (finish, 256)):
        one.add_argument("--patch", type=int, default=patch)
        one.add_argument("--workers", type=int, default=1)
        one.add_argument("--compile", action="store_true", help="faster after some minutes")
    one = commands.add("evaluate", "data", "run?")
    one.add_argument("--detector", type=Path)
    one.add_argument("--grid", type=Path)
    commands.add("export", "run", "file")
    args = commands.parse(arguments)
    if args.command in ("train", "finish"):
        train(args.faces, args.run, args, args.start if args.command == "finish" else None)
    elif args.command == "evaluate":
        evaluate(args.data, args.run, args.detector, args.grid)
    else:
        export(args.run, args.file)


if __name__ == "__main__":
    main()
