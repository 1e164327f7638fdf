"""Recipe of the network that sees what lies in front of a face, from pasted things to a file.

    python -m recipes.aligned DATA FACES                     align the portraits at 256 px
    python -m recipes.occlusion prepare DATA FACES THINGS [--more FOLDER]
    python -m recipes.occlusion train FACES THINGS RUN [--minutes M]
    python -m recipes.occlusion evaluate DATA THINGS RUN [--grid FOLDER]
    python -m recipes.occlusion export RUN weights/occlusion.safetensors

`prepare` cuts out of photographs what things are covered with: clothes, flags, walls. Training
lays things over clean faces (`recipes.occluders`), damages most of the results, and asks for the
outline; some faces stay bare, so that glasses, beards, hair and make-up count as face. One source
of a patch in ten, one font in five and the faces of `eval/hq` are held out. The loss is the binary
cross-entropy and, where something lies there, a soft 1 − IoU.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset

from bfr.damage.degrade import degrade_faces
from bfr.faces.occlusion import as_occlusion, load_occlusion
from bfr.faces.occlusion_network import SIDE, OcclusionNetwork
from recipes.occlusion_evaluation import evaluate, evaluate_real, face_region

from .aligned import draw_faces
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
from .occluder_sources import Sources, load_sources, prepare, skins_of
from .occluders import KINDS, SHARES, draw_occluder, put_on
from .restorer_pairs import DAMAGE
from .worn import grow

log = logging.getLogger(__name__)
CLEAN = 0.3  # share of faces with nothing in front
TWO = 0.15  # share of the others with two things
WORN = 0.35  # share of faces with a moustache, beard or shadow, which is no thing in front
OLD = 0.2  # share of faces that are old scans
OWN_HAND = 0.5
DAMAGED = 0.75
GREY = 0.15
KEPT = 400  # drawn faces from which old ones are shown again
AGAIN = 1  # of those for each new one
BESIDE = 0.15  # how much an error beside the face counts: there, "in front" means little


class Covered(IterableDataset):
    """Endless (face 3×S×S, what lies in front 1×S×S) in [0, 1]."""

    def __init__(self, faces: Path, things: Path, seed: int):
        self.faces, self.things, self.seed = faces, things, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        sources = load_sources(self.things, held=False)
        old = np.load(self.things / "old.npy", mmap_mode="r")
        drawn: list[tuple[Tensor, Tensor]] = []
        for face, _ in draw_faces(self.faces, rng):
            if rng.random() < OLD:
                scan = old[rng.integers(len(old))][:, :: rng.choice([-1, 1])].copy()
                face = torch.from_numpy(scan).permute(2, 0, 1).float() / 255
                face = _moved(face, rng)
            else:
                face = _moved(face, rng)
            new = cover(face, sources, rng)
            yield new
            if len(drawn) == KEPT:
                drawn.pop(int(rng.integers(KEPT)))
            drawn.append((new[0].half(), new[1].half()))
            for _ in range(AGAIN):  # drawing takes longer than learning
                yield _again(drawn[int(rng.integers(len(drawn)))], rng)


def _again(shown: tuple[Tensor, Tensor], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A face and its outline, half of the times mirrored, in another light."""
    face, outline = (x.float() for x in shown)
    if rng.random() < 0.5:
        face, outline = face.flip(-1), outline.flip(-1)
    light = 0.5 + rng.uniform(0.7, 1.2) * (face - 0.5) + rng.normal(0, 0.06)
    return light.clamp(0, 1), outline


def _moved(face: Tensor, rng: np.random.Generator) -> Tensor:
    """A face 3×S×S moved, turned and scaled a little, as a detector's points are off."""
    turn, scale = rng.normal(0, 0.06), np.exp(rng.normal(0, 0.05))
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    dx, dy = rng.normal(0, 0.03, 2)
    theta = torch.tensor([[[cos, -sin, dx], [sin, cos, dy]]], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, *face.shape], align_corners=False)
    return F.grid_sample(face[None], grid, padding_mode="reflection", align_corners=False)[0]


def cover(face: Tensor, sources: Sources, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Lays things over a face 3×S×S or leaves it, and damages it; returns it and the outline."""
    pixels, outline = face.permute(1, 2, 0).numpy(), np.zeros((SIDE, SIDE), np.float32)
    if rng.random() < WORN:
        pixels = grow(pixels, rng)
    count = 0 if rng.random() < CLEAN else 2 if rng.random() < TWO else 1
    own = replace(sources, skins=skins_of(pixels[None]))  # the person's hand, or somebody else's
    for kind in rng.choice(list(KINDS), count, p=SHARES):
        made_of = own if rng.random() < OWN_HAND else sources
        pixels, over = put_on(pixels, draw_occluder(kind, made_of, rng), rng)
        outline = 1 - (1 - outline) * (1 - over)
    covered = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float()
    if rng.random() < GREY:
        covered = covered.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < DAMAGED:
        kinds, chances = zip(*DAMAGE.values(), strict=True)
        kind = kinds[rng.choice(len(kinds), p=chances)]
        covered = degrade_faces(covered[None], kind, int(rng.integers(2**31)))[0]
    return covered.clamp(0, 1), torch.from_numpy(outline)[None]


def outline_loss(logits: Tensor, outline: Tensor) -> Tensor:
    """Cross-entropy, and 1 − IoU of faces with something in front."""
    place = face_region().to(outline)
    found, wanted = logits.sigmoid() * place, outline * place
    shared = (found * wanted).flatten(1).sum(1)
    either = (found + wanted - found * wanted).flatten(1).sum(1)
    there = wanted.flatten(1).mean(1) > 0.002
    apart = 1 - shared[there] / either[there]
    weights = BESIDE + (1 - BESIDE) * place
    errors = F.binary_cross_entropy_with_logits(logits, outline, weights.expand_as(outline))
    return errors / weights.mean() + 0.6 * apart.sum() / len(logits)


def train(faces: Path, things: Path, run: Path, args: argparse.Namespace) -> None:
    """Trains until the run's minutes are over, following a cosine over exactly that time."""
    device = pick_device()
    network, average = OcclusionNetwork().to(device), OcclusionNetwork().to(device)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.01)
    parts: dict[str, Any] = {"network": network, "average": average, "optimizer": optimizer}
    start = None if args.start is None else lambda: weights_of(args.start)
    step, spent = resume(run, parts, start)
    average.eval()
    loader = load_batches(Covered(faces, things, step), args.batch, args.workers)

    def loss_of(batch: list[Tensor]) -> Tensor:
        covered, outline = (images.to(device) for images in batch)
        covered = covered.contiguous(memory_format=torch.channels_last)
        with half_precision(device, args.bfloat16):
            logits = network(covered)
        return outline_loss(logits.float(), outline)

    limits = {"step": step, "spent": spent, "minutes": args.minutes, "steps": args.steps}
    rates = {"lr": args.lr, "warm_up": 100, "decay": 0.998, "clip": 1.0, "every": 100}
    train_for(run, parts, loader, loss_of, **limits, **rates)


def _average_of(run: Path) -> OcclusionNetwork:
    return load_average(run, OcclusionNetwork())


def export(run: Path, file: Path, halfway: Path | None = None) -> None:
    """Writes the averaged network in half precision.

    ``halfway`` names the weights that the run started from: the mean of both keeps most of what was
    learned, and the older weights' certainty on bare faces (Wortsman et al. 2022).
    """
    network = _average_of(run)
    if halfway is not None:
        older = weights_of(halfway)
        mean = {
            name: value.lerp(older[name], 0.5) if value.is_floating_point() else value
            for name, value in network.state_dict().items()
        }
        network.load_state_dict(mean)
    state = network.half().state_dict()
    write_weights(file, state, "occlusion", architecture="OcclusionNetwork", size=SIDE)


def main(arguments: Sequence[str] | None = None) -> None:
    commands = Commands(__doc__)
    one = commands.add("prepare", "data", "faces", "things")
    one.add_argument("--more", type=Path, help="a folder of pictures of other things")
    paths = ("faces", "things", "run")
    one = commands.add_training("train", *paths, minutes=50, batch=16, lr=2e-3)
    one.add_argument("--start", type=Path, help="a run or a weights file to go on from")
    commands.add_speed(one)
    one = commands.add("evaluate", "data", "things", "run?")
    one.add_argument("--grid", type=Path)
    one = commands.add("export", "run", "file")
    one.add_argument("--halfway", type=Path, help="the weights that the run started from")
    args = commands.parse(arguments)
    if args.command == "prepare":
        prepare(args.data, args.faces, args.things, args.more)
    elif args.command == "train":
        train(args.faces, args.things, args.run, args)
    elif args.command == "evaluate":
        occlusion = load_occlusion() if args.run is None else as_occlusion(_average_of(args.run))
        evaluate(args.data, args.things, occlusion, args.grid)
        evaluate_real(args.data, occlusion, args.grid)
    else:
        export(args.run, args.file, args.halfway)


if __name__ == "__main__":
    main()
