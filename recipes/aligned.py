"""Aligned clean faces at 256 px, which the restorer and the prior learn from.

    python -m recipes.aligned DATA FACES [--detector FILE]

It finds, aligns and filters the portraits of DATA with our detector, and reports what it drops.
FACES then holds `faces.npy` (N×256×256×4 uint8: RGB, and 255 where the crop lies inside of its
photograph, 0 where it was mirrored at the border) and `faces.json` (their sources, how often each
is to be shown, and the drops).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import Detector, load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path
from bfr.image.geometry import invert, scale_of, transform_points
from bfr.records import Alignment

from .faces import TRAIN_FOLDERS
from .groups import repeats

log = logging.getLogger(__name__)
SIZE = 256
MOST_ENLARGED = {"train/wiki": 0.8}
"""How far a face may be enlarged to 256 px and still be a clean target (1.3 elsewhere)."""
ALIKE = {"train/generated": 0.4}
"""How often folders of faces that are alike in style are drawn (1 elsewhere)."""


def prepare(data: Path, faces: Path, detector_file: Path | None) -> None:
    """Writes the aligned faces; every drop is counted."""
    detector, kept, names, times = load_detector(detector_file), [], [], []
    dropped: dict[str, dict[str, int]] = {}
    for folder in TRAIN_FOLDERS:
        count = dropped.setdefault(folder, {"no single sure face": 0, "too small": 0, "cut": 0})
        for path in sorted((data / folder).iterdir()):
            image = read_photo(path).pixels
            found = detect_faces(image, detector, score=0.6, try_rotations=False)
            if found.count != 1:
                count["no single sure face"] += 1
                continue
            crops, alignment = align_faces(image, found, SIZE)
            if scale_of(alignment.image_to_crop)[0] > MOST_ENLARGED.get(folder, 1.3):
                count["too small"] += 1
                continue
            x0, y0, x1, y1 = found.faces[0][0].box
            if x0 < 0 or y0 < 0 or x1 > image.shape[-1] or y1 > image.shape[-2]:
                count["cut"] += 1
                continue
            pixels = torch.cat([crops[0], inside(alignment)[0]])
            kept.append((pixels * 255).round().byte().permute(1, 2, 0).numpy())
            names.append(path.relative_to(data).as_posix())
            times.extend(repeats(crops).tolist())
    faces.mkdir(parents=True, exist_ok=True)
    with atomic_path(faces / "faces.npy") as path, path.open("wb") as file:
        np.save(file, np.stack(kept))
    with atomic_path(faces / "faces.json") as path:
        about = {"names": names, "repeats": times, "dropped": dropped}
        path.write_text(json.dumps(about, indent=1))
    log.info("%d faces kept; dropped %s", len(kept), json.dumps(dropped))


def inside(alignment: Alignment) -> Tensor:
    """Masks of the parts of crops inside their photographs: N×1×S×S, 1 inside and 0 outside."""
    rows, columns = torch.meshgrid(*map(torch.arange, alignment.crop_size), indexing="ij")
    grid = torch.stack([columns, rows], -1).reshape(1, -1, 2).double()
    points = transform_points(
        invert(alignment.image_to_crop), grid.expand(len(alignment), -1, -1)
    ).view(len(alignment), 1, *alignment.crop_size, 2)
    height, width = alignment.image_size
    limit = torch.tensor([width, height], dtype=torch.float64) - 0.5
    return ((points >= -0.5) & (points <= limit)).all(-1).float()


def draw_faces(faces: Path, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws prepared faces at random without end, mirrored every second time, dark ones oftener.

    Args:
        faces: the folder that `prepare` wrote.
        rng: what draws them.

    Yields:
        A face 3×S×S in [0, 1], and 1×S×S with 1 where it lies inside of its photograph.
    """
    pixels = np.load(faces / "faces.npy", mmap_mode="r")
    about = json.loads((faces / "faces.json").read_text())
    chances = np.array([ALIKE.get(name.rpartition("/")[0], 1.0) for name in about["names"]])
    chances *= about["repeats"]
    chances /= chances.sum()
    while True:
        drawn = torch.from_numpy(np.array(pixels[rng.choice(len(chances), p=chances)]))
        drawn = drawn.permute(2, 0, 1).float() / 255
        if rng.random() < 0.5:
            drawn = drawn.flip(-1)
        yield drawn[:3], drawn[3:]


def held_out_faces(data: Path, detector: Detector) -> tuple[Tensor, list[str]]:
    """The clean faces of `eval/hq` aligned at 256 px, N×3×256×256, and their names."""
    crops, names = [], []
    for path in sorted((data / "eval/hq").iterdir()):
        image = read_photo(path).pixels
        found = select_faces(detect_faces(image, detector), sort="score", limit=1)
        if found.count:
            crops.append(align_faces(image, found, SIZE)[0])
            names.append(path.name)
    return torch.cat(crops), names


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--detector", type=Path)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    prepare(args.data, args.faces, args.detector)


if __name__ == "__main__":
    main()
