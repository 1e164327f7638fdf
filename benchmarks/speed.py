"""Speed and memory around a face, as ratios to facexlib and to the plain way in the same run.

    python -m benchmarks.speed [--quick] [--ours] [--threads 1] [--json FILE]

facexlib's FaceRestoreHelper is what GFPGAN, CodeFormer and most packs align and paste with, and its
ResNet-50 what they detect with; it has random weights here. Each case runs in a process of its own,
so that its peak memory is its own, and one thread is timed by its own work, which nothing else on
the machine lengthens; the photograph is noise of the given size and the faces stand in rows. The
published way to a pseudo target, 150 float32 calls, is computed from two. A ratio above 1 is in our
favour.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bfr import (  # by the front door, so that earlier commits can be measured too
    align_faces,
    detect_faces,
    load_detector,
    load_restorer,
    paste_faces,
    restore_faces,
)
from bfr.image.geometry import face_template
from bfr.records import Face, FaceSet

from .measure import in_own_process

CROP = 512
# As the command pastes; earlier commits have no choice.
_WITHOUT_MASKS: dict[str, Any] = (
    {"masks": False} if "masks" in inspect.signature(paste_faces).parameters else {}
)
_COVERED = 1.3  # sides of a face that its aligned crop covers


@dataclass(frozen=True, slots=True)
class Case:
    """So many faces, each so many pixels high, in a photograph of so many megapixels."""

    faces: int
    size: int
    megapixels: float

    def __str__(self) -> str:
        return f"{self.faces} faces of {self.size} px, {self.megapixels:g} MP"


PASTED = (Case(8, 200, 2), Case(10, 400, 24), Case(10, 150, 24), Case(30, 300, 50))
SEARCHED = (2.0, 24.0)
_QUICK = 2  # of the cases above
_LARGE = 10.0  # megapixels
_CALLS, _TIMED = 150, 2  # of the published way, and how many of them are timed


def photograph(megapixels: float) -> torch.Tensor:
    """A 3:2 photograph of noise, 1×3×H×W."""
    height = round(math.sqrt(megapixels * 1e6 / 1.5))
    return torch.rand(1, 3, height, round(1.5 * height), generator=torch.Generator().manual_seed(0))


def placed_faces(count: int, height: int, width: int, size: int) -> FaceSet:
    """Faces of a size in rows, each tilted by its own angle."""
    columns = math.ceil(math.sqrt(count * width / height))
    cell = min(width / columns, height / math.ceil(count / columns))
    faces = []
    for i in range(count):
        turn = math.radians(-30 + 60 * i / max(1, count - 1))
        points = (face_template(512).numpy() - 255.5) * (_COVERED * size / 512)
        points = points @ np.array(
            [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
        )
        points += [(i % columns + 0.5) * cell, (i // columns + 0.5) * cell]
        box = (*points.min(0).tolist(), *points.max(0).tolist())
        faces.append(Face(box, 1.0, tuple((x, y) for x, y in points.tolist())))
    return FaceSet((tuple(faces),), (height, width))


def ours(photo: torch.Tensor, faces: FaceSet) -> None:
    """Aligns all faces and pastes them back as the command does: each cut once, in place."""
    crops, alignment = align_faces(photo, faces, CROP)
    paste_faces(photo, crops, alignment, before=crops, in_place=True, **_WITHOUT_MASKS)


def facexlib(photo: torch.Tensor, faces: FaceSet) -> None:
    """The same with facexlib's helper, built without its networks."""
    import cv2
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

    cv2.setNumThreads(torch.get_num_threads())
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


def paste_case(
    run: Callable[[torch.Tensor, FaceSet], None], case: Case, device: str = "cpu"
) -> Callable[[], None]:
    photo = photograph(case.megapixels).to(device)
    faces = placed_faces(case.faces, photo.shape[-2], photo.shape[-1], case.size)
    return lambda: run(photo, faces)


def restore_case(
    batch_size: int, faces: int, precision: str = "auto", device: str = "cpu"
) -> Callable[[], None]:
    restorer, crops = load_restorer(precision=precision).to(device), torch.rand(faces, 3, 256, 256)

    def run() -> None:
        restore_faces(crops, restorer, batch_size=batch_size)

    return run


def detect_case(megapixels: float, device: str = "cpu") -> Callable[[], None]:
    detector, photo = load_detector().to(device), photograph(megapixels)

    def run() -> None:
        detect_faces(photo, detector, try_rotations=False)

    return run


def detect_published(megapixels: float) -> Callable[[], None]:
    """facexlib's detector at its own size: shorter side 1600 pixels, or longer side 2150."""
    from bfr.faces.retinaface import build_detector

    network, photo = build_detector("resnet50"), photograph(megapixels)
    pixels = (photo[0].permute(1, 2, 0) * 255).byte().numpy()[..., ::-1]

    @torch.no_grad()
    def run() -> None:
        network.detect_faces(pixels, 0.97, use_origin_size=False)  # type: ignore[operator]

    return run


def rows(threads: int, quick: bool, alone: bool) -> Iterator[dict[str, Any]]:
    """A row per case: seconds and MB of ours, and of what it is compared with, unless alone.

    With more than one thread, the first case only, the same beside a busy process, and photographs
    side by side.
    """
    nothing = (math.nan, math.nan)

    def row(name: str, ours: Any, other: Any, anchor: str) -> dict[str, Any]:
        return {"work": name, "threads": threads, "ours": ours, "other": other, "anchor": anchor}

    count = 1 if threads > 1 else _QUICK if quick else None
    for case in PASTED[:count]:
        mine = in_own_process(paste_case, (ours, case), threads)
        repeats = 3 if case.megapixels < _LARGE else 1  # of what takes a minute
        theirs = nothing
        if not alone:
            theirs = in_own_process(paste_case, (facexlib, case), threads, repeats)
        yield row(f"align and paste {case}", mine, theirs, "facexlib")
    if threads > 1:
        small = paste_case, (ours, PASTED[0])
        many, one = (in_own_process(*small, each, busy=True) for each in (threads, 1))
        yield row("the same beside a busy process", many, one, "1 thread")
        if not (alone or quick):
            from .whole import album_case

            both, each = (in_own_process(album_case, (4, n), threads, 1) for n in (threads, 1))
            yield row(f"4 photographs, {threads} at once", both, each, "one by one")
        return
    one, eight = (in_own_process(restore_case, (size, 8), threads, 2) for size in (1, 8))
    yield row("restore 8 faces singly, embedded", one, eight, "8 at once")
    if not alone:
        exact = in_own_process(restore_case, (1, 8, "float32"), threads, 2)
        yield row("restore 8 faces singly, auto", one, exact, "float32")
    small, large = (in_own_process(detect_case, (size,), threads, 2) for size in SEARCHED)
    yield row(f"detect in {SEARCHED[1]:g} MP", large, small, f"{SEARCHED[0]:g} MP")
    if not (alone or quick):
        theirs = in_own_process(detect_published, SEARCHED[1:], threads, 1)
        yield row(f"the same, {SEARCHED[1]:g} MP", large, theirs, "facexlib")
        yield from _networks(threads, row)


def _networks(threads: int, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of sampling and of fine-tuning."""
    from .quick_step import quick_step
    from .sampling import PLAIN, call_case, target_case

    ways = (("bfloat16", True), PLAIN)
    half, exact = (in_own_process(call_case, (way, 512), threads, 2) for way in ways)
    yield row("published prior, one call, bfloat16", half, exact, "float32")
    half = in_own_process(target_case, (ways[0],), threads, 1)
    exact, memory = in_own_process(target_case, (PLAIN, _TIMED), threads, 1)
    yield row("one pseudo target", half, (exact * _CALLS / _TIMED, memory), "published")
    plain, tuned = quick_step(threads)
    yield row("fine-tuning, a quick step, auto", tuned, plain, "plain loop")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small photographs only")
    parser.add_argument("--ours", action="store_true", help="without what it is compared with")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    found = show(row for threads in args.threads for row in rows(threads, args.quick, args.ours))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


def show(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints each row as it is measured, and returns them."""
    titles = f"{'seconds':>9}{'MB':>7}"
    print(f"{'':48}{'threads':>8}{titles}{'anchor':>12}{titles}{'ratio':>7}")
    found, began = [], time.monotonic()
    for row in rows:
        found.append(row)
        (seconds, memory), (other, others) = row["ours"], row["other"]
        print(
            f"{row['work']:48}{row['threads']:8}{seconds:9.3f}{memory:7.0f}{row['anchor']:>12}"
            f"{other:9.3f}{others:7.0f}{other / seconds:7.1f}",
            flush=True,
        )
    print(f"in {time.monotonic() - began:.0f} s")
    return found


if __name__ == "__main__":
    main()
