"""Speed and memory of aligning, restoring and pasting, against facexlib in the same run.

    python -m benchmarks.speed [--faces 1 8 30] [--megapixels 2 50] [--threads N]

The baseline is facexlib's FaceRestoreHelper, which GFPGAN, CodeFormer and most packs paste with.
Each case runs in a process of its own, so that its peak memory is its own; the photograph is
noise of the given size and the faces stand in rows. Times are the best of three.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.paste import paste_faces
from bfr.faces.retinaface import load_detector
from bfr.image.geometry import face_template
from bfr.records import Face, FaceSet
from bfr.restore.restorer import load_restorer, restore_faces

from .measure import in_own_process

CROP = 512
_Case = tuple[int, float]


def photograph(megapixels: float) -> torch.Tensor:
    """A 3:2 photograph of noise, 1×3×H×W."""
    height = round(math.sqrt(megapixels * 1e6 / 1.5))
    return torch.rand(1, 3, height, round(1.5 * height), generator=torch.Generator().manual_seed(0))


def placed_faces(count: int, height: int, width: int) -> FaceSet:
    """Faces in rows, as large as their number allows, each tilted by its own angle."""
    columns = math.ceil(math.sqrt(count * width / height))
    cell = min(width / columns, height / math.ceil(count / columns))
    faces = []
    for i in range(count):
        turn = math.radians(-30 + 60 * i / max(1, count - 1))
        points = (face_template(512).numpy() - 255.5) * (0.6 * cell / 512)
        points = points @ np.array(
            [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
        )
        points += [(i % columns + 0.5) * cell, (i // columns + 0.5) * cell]
        box = (*points.min(0).tolist(), *points.max(0).tolist())
        faces.append(Face(box, 1.0, tuple((x, y) for x, y in points.tolist())))
    return FaceSet((tuple(faces),), (height, width))


def ours(photo: torch.Tensor, faces: FaceSet) -> None:
    """Aligns all faces and pastes them back."""
    crops, alignment = align_faces(photo, faces, CROP)
    paste_faces(photo, crops, alignment)


def facexlib(photo: torch.Tensor, faces: FaceSet) -> None:
    """The same with facexlib's helper, built without its networks."""
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

    helper = FaceRestoreHelper.__new__(FaceRestoreHelper)
    helper.clean_all()
    helper.inverse_affine_matrices, helper.affine_matrices = [], []
    helper.upscale_factor, helper.use_parse, helper.pad_blur = 1, False, False
    helper.face_size, helper.face_template = (CROP, CROP), face_template(CROP).numpy()
    pixels = (photo[0].permute(1, 2, 0) * 255).byte().numpy()
    helper.input_img = np.ascontiguousarray(pixels[..., ::-1])
    helper.all_landmarks_5 = [np.array(face.landmarks) for face in faces.faces[0]]
    helper.align_warp_face()
    helper.restored_faces = helper.cropped_faces
    helper.get_inverse_affine()
    helper.paste_faces_to_input_image()


def paste_case(run: Callable[[torch.Tensor, FaceSet], None], case: _Case) -> Callable[[], None]:
    photo = photograph(case[1])
    faces = placed_faces(case[0], photo.shape[-2], photo.shape[-1])
    return lambda: run(photo, faces)


def restore_case(batch_size: int, case: _Case) -> Callable[[], None]:
    restorer, crops = load_restorer(), torch.rand(case[0], 3, 256, 256)

    def run() -> None:
        restore_faces(crops, restorer, batch_size=batch_size)

    return run


def detect_case(case: _Case) -> Callable[[], None]:
    detector, photo = load_detector(), photograph(case[1])

    def run() -> None:
        detect_faces(photo, detector, try_rotations=False)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 8, 30])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[2, 50])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    rows = []
    for megapixels in args.megapixels:
        for faces in args.faces:
            case = (faces, megapixels)
            rows.append(
                (
                    f"align and paste {faces} faces in {megapixels:g} MP (512 px crops)",
                    in_own_process(paste_case, (ours, case), args.threads),
                    in_own_process(paste_case, (facexlib, case), args.threads),
                )
            )
    for faces in args.faces:
        case = (faces, 0.0)
        rows.append(
            (
                f"restore {faces} faces, embedded (8 at once against 1)",
                in_own_process(restore_case, (8, case), args.threads),
                in_own_process(restore_case, (1, case), args.threads),
            )
        )
    for megapixels in args.megapixels:
        one = in_own_process(detect_case, ((0, megapixels),), args.threads)
        rows.append((f"detect in {megapixels:g} MP", one, None))
    print(f"{'':62}{'seconds':>9}{'MB':>7}{'baseline':>10}{'MB':>7}{'ratio':>7}")
    for name, (seconds, memory), base in rows:
        line = f"{name:62}{seconds:9.2f}{memory:7.0f}"
        if base:
            line += f"{base[0]:10.2f}{base[1]:7.0f}{base[0] / seconds:7.1f}"
        print(line)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
