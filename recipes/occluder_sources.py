"""Materials of things in front of faces: parts of photographs, skins and fonts."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.occlusion import LEAST_SHARE, covered_shares, find_in_front, load_occlusion
from bfr.faces.occlusion_network import SIDE
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path
from bfr.image.resize import resize_square
from bfr.image.tensors import to_uint8

from .faces import TRAIN_FOLDERS

log = logging.getLogger(__name__)
Array = np.ndarray
UNITS = 128
"""Things are measured in so many parts of the side of an aligned face."""

PIXEL = SIDE // UNITS
"""Pixels of such a part."""

ROWS, COLUMNS = ((np.mgrid[0:SIDE, 0:SIDE] + 0.5) / PIXEL - 0.5).astype(np.float32)
"""The y and x of each pixel of an aligned face, in parts."""

OLD_FOLDER = "real_lq/portraits_tune"
_MISTAKEN = 4  # times that an old face is there on which something was found
_ENLARGED = 1.3
_MORE = 24  # patches of a picture that is no portrait
_CHEEKS = ((0.36, 0.6), (0.64, 0.6))


@dataclass(frozen=True, slots=True)
class Sources:
    """Materials of occluders: patches N×S×S×3 uint8, skins M×3 in [0, 1], fonts."""

    patches: Array
    skins: Array
    fonts: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Occluder:
    """A picture S×S×3 in [0, 1] and its outline S×S in [0, 1]."""

    pixels: Array
    outline: Array


def prepare(data: Path, faces: Path, things: Path, more: Path | None) -> None:
    """Writes `patches.npy`, what things are covered with, their names, `skins.npy` and `old.npy`.

    Args:
        data: its portraits give what is worn: clothes, flags, microphones.
        faces: of `recipes.aligned`; they give the skins.
        things: the folder to write to.
        more: a folder of other pictures, or None.
    """
    rng, patches, names = np.random.default_rng(0), [], []
    portraits = [path for folder in TRAIN_FOLDERS for path in sorted((data / folder).iterdir())]
    others = [] if more is None else sorted(more.iterdir())
    for path, count in [(path, 1) for path in portraits] + [(path, _MORE) for path in others]:
        image = read_photo(path).pixels
        patches += [_patch(image, rng, below=count == 1) for _ in range(count)]
        names += [f"{path.parent.name}/{path.name}"] * count
    pixels = np.load(faces / "faces.npy", mmap_mode="r")
    parts = (pixels[start : start + 100, ..., :3] for start in range(0, len(pixels), 100))
    skins = np.concatenate([skins_of(part / np.float32(255)) for part in parts])
    things.mkdir(parents=True, exist_ok=True)
    arrays = {"patches.npy": np.stack(patches), "skins.npy": skins, "old.npy": old_faces(data)}
    for name, array in arrays.items():
        with atomic_path(things / name) as path, path.open("wb") as file:
            np.save(file, array)
    with atomic_path(things / "patches.json") as path:
        path.write_text(json.dumps(names))
    log.info("%s", ", ".join(f"{name}: {len(array)}" for name, array in arrays.items()))


def old_faces(data: Path) -> Array:
    """Faces of old scans, N×S×S×3 uint8, which count as bare.

    Those on which the embedded network finds something, by mistake, are there four times.
    """
    detector, occlusion, faces = load_detector(), load_occlusion(), []
    for path in sorted((data / OLD_FOLDER).iterdir()):
        image = read_photo(path).pixels
        found = select_faces(detect_faces(image, detector, score=0.6), sort="size", limit=1)
        crops, _ = align_faces(image, found, SIDE)
        (share,) = covered_shares(find_in_front(crops, occlusion)) or (0.0,)
        faces += [to_uint8(crops)] * (_MISTAKEN if share >= LEAST_SHARE else 1)
    return np.concatenate(faces)


def _patch(image: Tensor, rng: np.random.Generator, below: bool) -> Array:
    """A part of a picture 1×3×H×W at `SIDE` pixels; of a portrait, what is below the face.

    It is enlarged no more than a face is, and mirrored at its borders instead: a network would
    soon take what is soft for what is in front.
    """
    height, width = image.shape[-2:]
    side = max(8, int(min(height, width) * rng.uniform(0.2, 0.35)))
    y = height - side if below else rng.integers(height - side + 1)
    x = rng.integers(width - side + 1)
    large = min(SIDE, int(_ENLARGED * side))
    patch = to_uint8(resize_square(image[..., y : y + side, x : x + side], large))[0]
    return np.pad(patch, ((0, SIDE - large), (0, SIDE - large), (0, 0)), "symmetric")


def skins_of(faces: Array) -> Array:
    """The skin of N×S×S×3 faces: N×3, as light as its lighter parts."""
    side, parts = faces.shape[1], []
    for x, y in _CHEEKS:
        rows, columns = (slice(int((at - 0.05) * side), int((at + 0.05) * side)) for at in (y, x))
        parts.append(faces[:, rows, columns].reshape(len(faces), -1, 3))
    return np.quantile(np.concatenate(parts, 1), 0.7, 1).astype(np.float32)


def load_sources(things: Path, held: bool, skins: Array | None = None) -> Sources:
    """Reads the materials of things.

    Args:
        things: the folder that `prepare` wrote.
        held: whether to take what is held out, one source in ten and one font in five.
        skins: M×3 to take instead of those of the training faces.
    """
    import matplotlib

    patches = np.load(things / "patches.npy", mmap_mode="r")
    names = json.loads((things / "patches.json").read_text())
    chosen = [i for i, name in enumerate(names) if _held(name) == held] or [0]
    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("DejaVu*.ttf"))
    fonts = [font for i, font in enumerate(fonts) if (i % 5 == 0) == held]
    given = np.load(things / "skins.npy") if skins is None else skins
    return Sources(np.array(patches[chosen]), given, tuple(fonts))


def _held(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] < 26


def somewhere(rng: np.random.Generator) -> Array:
    """A point (x, y), mostly on the face."""
    return np.clip(rng.normal((64, 74), (20, 22)), 0, UNITS)


def soft(distance: Array, width: float) -> Array:
    """An outline, 1 inside of where the distance is positive, soft over ``width`` pixels."""
    return np.clip(0.5 + PIXEL * distance / (2 * width), 0, 1).astype(np.float32)
