"""The faces of `benchmarks.unseen_damage`: to tune with, and to measure on."""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bfr.damage.degrade import degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import Photo, read_photo
from bfr.files.whole import atomic_path
from bfr.files.writing import write_photo
from bfr.image.tensors import from_uint8, to_uint8

SIZE = 256
SCANS = "real scans"
TUNE_SEED, EVALUATION_SEED = 10_000, 20_000


@dataclass(frozen=True, slots=True)
class DamagedFaces:
    """Aligned faces: N×3×S×S RGB in [0, 1] as they are given, and clean where that is known."""

    given: Tensor
    clean: Tensor | None


def aligned(data: Path, out: Path, name: str, count: int) -> Tensor:
    """The surest face of each of some photographs, N×3×S×S; kept in OUT/crops."""
    file = out / "crops" / f"{name}-{count}.safetensors"
    if not file.exists():
        folders = {"train": ("train/congress", "train/headshots")}.get(name, (name,))
        photos = [path for folder in folders for path in sorted((data / folder).iterdir())]
        random.Random(0).shuffle(photos)
        detector, crops = load_detector(), []
        for path in photos:
            image = read_photo(path).pixels
            found = select_faces(detect_faces(image, detector), sort="score", limit=1)
            crops += align_faces(image, found, SIZE)[0]
            if len(crops) == count:
                break
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path:
            save_file({"crops": (torch.stack(crops) * 255).round().byte()}, path)
    return load_file(file)["crops"].float() / 255


def tuning_faces(data: Path, out: Path, damage: str, count: int) -> DamagedFaces:
    """The faces that the restorer is tuned with."""
    if damage == SCANS:
        return DamagedFaces(aligned(data, out, "real_lq/portraits_tune", count), None)
    clean = aligned(data, out, "train", count)
    return DamagedFaces(written(degrade_faces(clean, damage, TUNE_SEED)), clean)


def evaluation_faces(data: Path, out: Path, damage: str, count: int) -> DamagedFaces:
    """Other faces, which the restorers are measured on."""
    if damage == SCANS:
        return DamagedFaces(aligned(data, out, "real_lq/portraits_eval", count), None)
    clean = aligned(data, out, "eval/hq", count)
    return DamagedFaces(written(degrade_faces(clean, damage, EVALUATION_SEED)), clean)


def clean_folder(args: argparse.Namespace) -> Path:
    """Clean faces as a user may have them: of other people than the tuning faces."""
    folder = args.out / "clean"
    if not folder.exists():
        others = aligned(args.data, args.out, "train", args.faces + args.clean)[args.faces :]
        folder.mkdir(parents=True)
        for number, face in enumerate(others):
            write_photo(folder / f"{number:03d}.png", Photo(face[None]))
    return folder


def written(images: Tensor) -> Tensor:
    """Rounded as in a file of 8 bits."""
    return from_uint8(to_uint8(images))
