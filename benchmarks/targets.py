"""Pseudo targets by the shipped defaults against the paper's settings: tables and pictures.

    python -m benchmarks.targets DATA OUT [--faces 24] [--damages ...] [--ways ...] [--prior FILE]

DATA is the folder that the recipes take. For each damage some held-out faces are damaged (real
scans are taken as they are), restored by the embedded restorer, and the guesses repainted in
several ways. OUT/DAMAGE.md compares them with the clean faces, real scans with themselves, and
marks what differs from the guess by more than two standard errors; OUT/DAMAGE.png shows them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from bfr.faces.identity import load_identity
from bfr.faces.retinaface import load_detector
from bfr.files.photos import Photo
from bfr.files.writing import write_photo
from bfr.image.sheets import sheet
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.prior import Prior
from bfr.prior.sample import sample_targets
from bfr.quality.face_batch import Tools
from bfr.quality.measure import measure_sets
from bfr.quality.metrics import caption
from bfr.quality.perceptual import load_distance
from bfr.quality.tables import Table
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces

from .unseen_damage import DAMAGES
from .unseen_faces import DamagedFaces, evaluation_faces
from .unseen_tables import markdown

PAPER = {"hold": "paper", "start": 150, "stop": 90, "factor": 8, "sampler": "ddpm"}
WAYS = {
    "default": Guidance(),
    "paper": Guidance(**PAPER, calls=0),
    "paper, 25 calls": Guidance(**{**PAPER, "sampler": "dpm-solver++"}, calls=25),
    **{f"freedom {freedom:g}": Guidance(freedom=freedom) for freedom in (0, 0.5, 0.75, 1)},
    **{f"detail {detail:+g}": Guidance(detail=detail) for detail in (-1, -0.5, 0.5, 1)},
    **{f"{calls} calls": Guidance(calls=calls) for calls in (4, 16)},
}
FEW = ("default", "paper, 25 calls", "freedom 0", "freedom 0.5", "freedom 1", "detail +1")


def repaint(faces: DamagedFaces, ways: list[str], prior: Prior) -> dict[str, Tensor]:
    """The guess and the targets of each way, N×3×S×S each; prints the seconds a face."""
    guess = restore_faces(faces.given, load_restorer())
    made = {"damaged": faces.given, "guess": guess}
    for way in ways:
        began = time.perf_counter()
        made[way] = sample_targets(guess, prior, WAYS[way].settings(prior)).targets
        print(f"{way}: {(time.perf_counter() - began) / len(guess):.2f} s a face", flush=True)
    return made


def measure(made: dict[str, Tensor], faces: DamagedFaces) -> dict[str, Table]:
    """A table for each way; its identity is to the clean face, or to the scan."""
    tools = Tools(load_detector(), load_distance("auto"), load_identity())
    return measure_sets(made, reference=faces.clean, given=faces.given, tools=tools)


def draw(
    made: dict[str, Tensor], tables: dict[str, Table], faces: DamagedFaces, shown: int
) -> Tensor:
    """A row for each of some faces, each with its figures."""
    pictures = made if faces.clean is None else {**made, "clean": faces.clean}
    cells, labels = [], []
    for place in torch.linspace(0, len(faces.given) - 1, shown).long().tolist():
        for way, images in pictures.items():
            cells.append(images[place])
            labels.append(caption(tables[way].of_face(place)) if way in tables else "")
    return sheet(cells, labels, column_labels=list(pictures))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--shown", type=int, default=6, help="faces in the picture")
    parser.add_argument("--damages", nargs="+", default=["gfpgan", *DAMAGES])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(FEW))
    parser.add_argument("--prior", type=Path, help="a file; the embedded one if none is named")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    prior = load_prior(args.prior)
    prior.network.to(args.device)
    for damage in args.damages:
        faces = evaluation_faces(args.data, args.out, damage, args.faces)
        made = repaint(faces, args.ways, prior)
        tables = measure(made, faces)
        lines = [f"## {damage}\n", *markdown(tables, tables["guess"])]
        (args.out / f"{damage}.md").write_text("\n".join(lines), encoding="utf-8")
        write_photo(args.out / f"{damage}.png", Photo(draw(made, tables, faces, args.shown)))
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
