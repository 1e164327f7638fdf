"""Draws the pictures of the nodes' help pages, with the embedded weights and the samples.

A function a picture, each a row of labelled panels; ``python -m samples.pictures`` draws all of
them into ``web/docs/images``, in some minutes on one core. The screenshots beside them are of
``samples/screenshots.py``; ``make screenshots`` makes both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from bfr.damage.degrade import degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.overlay import draw_faces
from bfr.faces.paste import paste_faces
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.image.lowpass import lowpass
from bfr.image.sheets import sheet
from bfr.image.tensors import from_uint8, to_uint8
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.prior.settings import SampleSettings
from bfr.records import FaceSet
from bfr.restore.clip import restore_video
from bfr.restore.load import load_restorer
from bfr.restore.photo import restore_photo
from bfr.restore.repair import repair_scratches
from bfr.restore.restorer import restore_faces
from bfr.restore.settings import RestoreSettings
from samples.clip import film

SAMPLES = Path(__file__).resolve().parent
FOLDER = SAMPLES.parent / "web" / "docs" / "images"
SIZE = 256  # of faces, in pixels
SEED = 7

Panels = dict[str, Tensor]  # 3×H×W RGB in [0, 1] by what is written below

detector, restorer, prior = cache(load_detector), cache(load_restorer), cache(load_prior)


def damaged(images: Tensor, damage: str) -> Tensor:
    return images if damage == "none" else degrade_faces(images, damage, SEED)


@cache
def photo(name: str, damage: str = "none") -> Tensor:
    """1×3×H×W RGB in [0, 1]."""
    return damaged(read_photo(SAMPLES / f"{name}.jpg").pixels, damage)


@cache
def face(name: str, damage: str) -> Tensor:
    """1×3×256×256 RGB in [0, 1]: a portrait's aligned face, damaged then."""
    clean = photo(name)
    crop, _ = align_faces(clean, detect_faces(clean, detector()), SIZE)
    return damaged(crop, damage)


def two_people() -> tuple[Tensor, FaceSet]:
    """A photograph of both portraits side by side, and its faces, from left to right."""
    sides = [
        F.interpolate(photo(n), (320, 320), mode="area") for n in ("grace_hopper", "eileen_collins")
    ]
    image = torch.cat(sides, 3)
    return image, select_faces(detect_faces(image, detector()), sort="left to right")


def restored_photo() -> Panels:
    before = photo("grace_hopper", "faded print")
    result = restore_photo(before, detector(), restorer())
    return {"photograph": before[0], "restored": result.images[0], "mask": grey(result.masks)}


def example_photo() -> Panels:
    kinds = ("none", "low resolution", "noise", "compression", "faded print", "newspaper")
    return {kind: photo("eileen_collins", kind)[0] for kind in kinds}


def detected() -> Panels:
    image, faces = two_people()
    return {"photograph": image[0], "overlay": draw_faces(image, faces)[0]}


def selected() -> Panels:
    image, faces = two_people()
    chosen = {
        "all": faces,
        "numbers 2": select_faces(faces, indices=[2]),
        "at most 1, by size": select_faces(faces, limit=1),
    }
    return {name: draw_faces(image, some)[0] for name, some in chosen.items()}


def aligned() -> Panels:
    tilted = photo("grace_hopper").rot90(1, (2, 3))
    faces = detect_faces(tilted, detector())
    crops, _ = align_faces(tilted, faces, SIZE)
    return {"photograph, turned": draw_faces(tilted, faces)[0], "crop": crops[0]}


def restored_face() -> Panels:
    crop = face("eileen_collins", "gfpgan")
    values = {
        "strength 1": {},
        "strength 0.5": {"strength": 0.5},
        "low-frequency lock 1": {"lock": 1.0},
    }
    results = {name: restore_faces(crop, restorer(), **value)[0] for name, value in values.items()}
    return {"crop": crop[0], **results}


def pasted() -> Panels:
    before = photo("grace_hopper", "faded print")
    crops, alignment = align_faces(before, detect_faces(before, detector()), SIZE)
    crops = restore_faces(crops, restorer())
    panels = {}
    for mask, start in {"soft oval": "photograph", "square": "restored crop"}.items():
        images, weights = paste_faces(before, crops, alignment, mask=mask)
        panels[start] = (before if start == "photograph" else crops)[0]
        panels |= {f"mask: {mask}": grey(weights), f"pasted: {mask}": images[0]}
    return panels


def damages() -> Panels:
    kinds = ("none", "gfpgan", "low resolution", "noise", "compression", "faded print")
    kinds += ("newspaper", "camera noise ISO 3000")
    return {kind: face("grace_hopper", kind)[0] for kind in kinds}


def repainting() -> SampleSettings:
    """The settings of sampling in the workflow face_tune_1_guidance: the defaults."""
    return Guidance().settings(prior())


def pseudo_target() -> Panels:
    before = face("eileen_collins", "low resolution")
    guess = restore_faces(before, restorer())
    sampled = sample_targets(guess, prior(), repainting())
    panels = {"damaged": before, "guess": guess}
    return {name: image[0] for name, image in (panels | {"target": sampled.targets}).items()}


def low_frequencies() -> Panels:
    clean = face("eileen_collins", "none")
    held = {f"held at factor {n}": lowpass(clean, n)[0].clamp(0, 1) for n in (4, 8, 16, 32)}
    return {"reference": clean[0], **held}


@cache
def filmed() -> Tensor:
    """24×3×320×320 RGB in [0, 1]: the sample clip before its compression."""
    return film(photo("grace_hopper"))[1]


def example_video() -> Panels:
    return {f"frame {i}": filmed()[i] for i in (0, 8, 16, 23)}


def restored_video() -> Panels:
    """Faces of three frames, larger."""
    shown, place = range(11, 14), (..., slice(60, 270), slice(70, 280))
    restored, _ = restore_video(filmed()[9:16], detector(), restorer())
    before = {f"frame {i}": filmed()[i][place] for i in shown}
    return before | {f"frame {i}, restored": restored[i - 9][place] for i in shown}


def repaired_scratches() -> Panels:
    """Drawn scratches: white lines across the picture and the face."""
    before = photo("grace_hopper").mean(1, keepdim=True).expand(-1, 3, -1, -1)
    size = before.shape[-1]
    drawn = Image.new("L", (size, size))
    pen = ImageDraw.Draw(drawn)
    for line in ((0.2, 0, 0.55, 1), (0.95, 0.1, 0.1, 0.75), (0.62, 0.2, 0.66, 0.9)):
        pen.line([round(part * size) for part in line], 255, 2)
    mask = from_uint8(np.array(drawn.convert("RGB"))[None])[:, :1]
    scratched = torch.where(mask > 0, torch.full_like(before, 0.95), before)
    repaired = repair_scratches(scratched, mask, detector(), restorer())
    return {"photograph": scratched[0], "mask": grey(mask), "repaired": repaired[0]}


def before_after() -> Panels:
    """The README's picture: heads cut out of photographs, enlarged twice."""
    panels = {}
    for name, damage in (("eileen_collins", "low resolution"), ("grace_hopper", "faded print")):
        before = photo(name, damage)
        side = 2 * before.shape[-1]
        head = (..., slice(side // 20, 3 * side // 4), slice(3 * side // 20, 17 * side // 20))
        restored = restore_photo(before, detector(), restorer(), RestoreSettings(enlarge=2))
        panels[damage] = F.interpolate(before, scale_factor=2, mode="bicubic")[head][0].clamp(0, 1)
        panels[f"{damage}, restored"] = restored.images[head][0]
    return panels


def grey(masks: Tensor) -> Tensor:
    return masks[0].expand(3, -1, -1)


# The pictures by their files' names, and how wide a panel is drawn.
PICTURES: dict[str, tuple[Callable[[], Panels], int]] = {
    "before_after": (before_after, 300),
    "restored_photo": (restored_photo, 300),
    "repaired_scratches": (repaired_scratches, 300),
    "example_photo": (example_photo, 200),
    "detected": (detected, 480),
    "selected": (selected, 400),
    "aligned": (aligned, 300),
    "restored_face": (restored_face, 256),
    "pasted": (pasted, 220),
    "damages": (damages, 220),
    "pseudo_target": (pseudo_target, 256),
    "low_frequencies": (low_frequencies, 220),
    "example_video": (example_video, 256),
    "restored_video": (restored_video, 256),
}
COLUMNS = {"damages": 4, "pasted": 3, "restored_video": 3}


def main(folder: Path = FOLDER) -> None:
    """Writes all pictures and prints their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    for name, (draw, width) in PICTURES.items():
        panels = draw()
        first = next(iter(panels.values()))
        cell = (round(width * first.shape[1] / first.shape[2]), width)
        columns = COLUMNS.get(name, len(panels))
        drawn = sheet(list(panels.values()), list(panels), columns=columns, cell_size=cell)
        Image.fromarray(to_uint8(drawn)[0]).save(folder / f"{name}.jpg", quality=85, optimize=True)
        print(folder / f"{name}.jpg")


if __name__ == "__main__":
    main()
