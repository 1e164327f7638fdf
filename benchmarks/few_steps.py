"""Pseudo targets in few network calls against the paper's many: a table, and a grid to look at.

    python -m benchmarks.few_steps PRIOR FACES [--calls 8] [--count 6] [--grid FILE] ...

PRIOR is what `load_prior` takes, or "embedded"; FACES a folder of photographs (samples/ will do).
Each face is aligned at the prior's size, damaged and restored by the embedded restorer. The
paper's way is suited to that size; the others hold softly, at the default freedom. Likeness is
the low-frequency PSNR of the target to that guess in dB; sharpness, grain and NIQE need no
reference, and those of the clean and of the guessed faces stand above. Seconds are of this
machine, to be compared in one run alone; those of dpm-solver++ include the import of diffusers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from bfr.choices import SAMPLERS
from bfr.damage.degrade import degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import load_detector
from bfr.files.photos import Photo, read_photo, write_photo
from bfr.files.sources import find_sources
from bfr.image.sheets import sheet
from bfr.prior.constraint import Constraint
from bfr.prior.guidance import Guidance
from bfr.prior.prior import load_prior
from bfr.prior.sample import sample_targets
from bfr.prior.settings import SampleSettings, for_prior
from bfr.quality.likeness import consistency_psnr
from bfr.quality.metrics import caption
from bfr.quality.niqe import niqe
from bfr.quality.texture import grain, sharpness
from bfr.restore.restorer import load_restorer, restore_faces


def aligned_faces(folder: Path, size: int, count: int) -> Tensor:
    """The first faces in a folder's photographs, N×3×size×size."""
    detector, crops = load_detector(), []
    for source in find_sources([folder]):
        photo = read_photo(source.path).pixels
        crops += align_faces(photo, detect_faces(photo, detector), size)[0]
        if len(crops) >= count:
            break
    return torch.stack(crops[:count])


def measure(faces: Tensor, guess: Tensor, factor: int) -> dict[str, Tensor]:
    """The metrics of each face by their keys."""
    return {
        "likeness": consistency_psnr(faces, guess, factor),
        "sharpness": sharpness(faces),
        "grain": grain(faces),
        "niqe": niqe(faces),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prior")
    parser.add_argument("faces", type=Path)
    parser.add_argument("--calls", type=int, nargs="+", default=[8])
    parser.add_argument("--count", type=int, default=6, help="faces")
    parser.add_argument("--factor", type=int, default=8)
    parser.add_argument("--damage", default="gfpgan", help="a preset of bfr.degrade")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--grid", type=Path, help="write the faces here")
    args = parser.parse_args()
    prior = load_prior(None if args.prior == "embedded" else args.prior)
    prior.network.to(args.device)
    clean = aligned_faces(args.faces, prior.size, args.count)
    damaged = degrade_faces(clean, args.damage, args.seed)
    guess = restore_faces(damaged, load_restorer())
    paper = for_prior(SampleSettings(Constraint(factor=args.factor), seed=args.seed), prior)
    factor = paper.constraint.factor
    cases = {f"ddpm, {paper.calls_a_face} calls": paper}
    for calls in args.calls:
        for sampler in SAMPLERS:
            guidance = Guidance(sampler=sampler, calls=calls, seed=args.seed)
            cases[f"{sampler}, {calls} calls"] = guidance.settings(prior)
    print(f"{len(clean)} faces of {prior.size} px, prior {prior.name}, {paper.constraint}\n")
    columns = ("likeness", "sharpness", "grain", "niqe", "s/face")
    print(" " * 22 + "".join(f"{column:>9}" for column in columns))
    pictures = {"clean": clean, "damaged": damaged, "guess": guess}
    figures = {}
    for name in [*pictures, *cases]:
        began = time.perf_counter()
        if name in cases:
            pictures[name] = sample_targets(guess, prior, cases[name]).targets
        seconds = (time.perf_counter() - began) / len(guess)
        figures[name] = measure(pictures[name], guess, factor)
        means = "".join(f"{float(values.mean()):9.2f}" for values in figures[name].values())
        print(f"{name:22}{means}{seconds:9.1f}", flush=True)
    if args.grid is not None:
        write_photo(args.grid, Photo(draw(pictures, figures)))
        print(f"\n{args.grid}")


def draw(pictures: dict[str, Tensor], figures: dict[str, dict[str, Tensor]]) -> Tensor:
    """A row for each face, with its figures below it."""
    cells, labels = [], []
    for i in range(len(pictures["guess"])):
        for name, faces in pictures.items():
            cells.append(faces[i])
            labels.append(caption({key: float(each[i]) for key, each in figures[name].items()}))
    return sheet(cells, labels, column_labels=list(pictures))


if __name__ == "__main__":
    main()
