"""Small scans restored with an enlargement, against bicubic enlargement alone: a table, pictures.

    python -m benchmarks.enlarging DATA OUT [--scans 50] [--shown 12]

DATA is the folder that the recipes take. Scans of `real_lq/portraits_eval` are restored as *Restore
Photo* does at its defaults. OUT/enlarging.md compares the faces in the results, at 256 px, with
those in the same scans enlarged bicubically by the same factor, and marks what differs by more
than two standard errors; identity is the distance to the face in the scan. OUT/enlarging.png shows
them, those with the largest distances first.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.faces.identity import load_identity
from bfr.faces.retinaface import load_detector
from bfr.files.photos import Photo, read_photo
from bfr.files.writing import write_photo
from bfr.image.sheets import sheet
from bfr.quality.face_batch import Tools
from bfr.quality.measure import measure_sets
from bfr.quality.metrics import caption
from bfr.records import Face, FaceSet
from bfr.restore.load import load_restorer
from bfr.restore.photo import restore_photo
from bfr.restore.settings import RestoreSettings

from .unseen_tables import markdown

SIDE = 256
NODE = RestoreSettings(enlarge="auto", grain=0.5, doubtful=False)
"""The defaults of *Restore Photo*."""


def restore(paths: list[Path]) -> tuple[dict[str, Tensor], list[int]]:
    """The faces N×3×256×256 of scans, enlarged and restored, and by what they were enlarged."""
    detector, restorer, identity = load_detector(), load_restorer(), load_identity()
    made: dict[str, list[Tensor]] = {"scan": [], "bicubic": [], "restored": []}
    factors = []
    for path in paths:
        scan = read_photo(path).pixels
        done = restore_photo(scan, detector, restorer, NODE, identity=identity)
        if not done.faces.count:
            print(f"{path.name}: no face", flush=True)
            continue
        bicubic = F.interpolate(scan, size=done.images.shape[-2:], mode="bicubic").clamp(0, 1)
        large = enlarged(done.faces, done.factor)
        made["scan"].append(align_faces(scan, done.faces, SIDE)[0])
        made["bicubic"].append(align_faces(bicubic, large, SIDE)[0])
        made["restored"].append(align_faces(done.images, large, SIDE)[0])
        factors.append(done.factor)
    return {name: torch.cat(parts) for name, parts in made.items()}, factors


def enlarged(faces: FaceSet, factor: int) -> FaceSet:
    """Faces in pixels of an enlarged photograph."""

    def scaled(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple((value + 0.5) * factor - 0.5 for value in values)

    def of(face: Face) -> Face:
        landmarks = tuple(scaled(point) for point in face.landmarks)
        return replace(face, box=scaled(face.box), landmarks=landmarks)

    size = (faces.image_size[0] * factor, faces.image_size[1] * factor)
    return FaceSet(tuple(tuple(map(of, found)) for found in faces.faces), size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scans", type=int, default=50)
    parser.add_argument("--shown", type=int, default=12, help="faces in the picture")
    args = parser.parse_args()
    paths = sorted((args.data / "real_lq/portraits_eval").iterdir())
    step = max(1, len(paths) // args.scans)
    made, factors = restore(paths[::step][: args.scans])
    given = made.pop("scan")
    tools = Tools(load_detector(), None, load_identity())
    tables = measure_sets(made, given=given, tools=tools)
    times = ", ".join(f"{factors.count(factor)} by {factor}" for factor in sorted(set(factors)))
    lines = [f"{len(given)} faces; scans enlarged: {times}\n"]
    lines += markdown(tables, tables["bicubic"])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "enlarging.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)
    distances = torch.tensor(tables["restored"].values["identity"]).nan_to_num(-1)
    cells, labels = [], []
    for place in distances.argsort(descending=True)[: args.shown].tolist():
        for way, faces in made.items():
            cells.append(faces[place])
            labels.append(caption(tables[way].of_face(place)))
    picture = sheet(cells, labels, columns=6, column_labels=list(made) * 3)
    write_photo(args.out / "enlarging.png", Photo(picture))


if __name__ == "__main__":
    main()
