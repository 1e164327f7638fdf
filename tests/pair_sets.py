"""Photographs, networks and settings for tests of pseudo-target sets: tiny, and quick to run."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from spandrel import Architecture, ImageModelDescriptor
from torch import Tensor, nn

from bfr.faces.retinaface import Detector
from bfr.files.lock import LOCK
from bfr.files.sources import find_sources
from bfr.pairs import crops, ready_crops
from bfr.pairs.build import BuildReport, build_pairs
from bfr.pairs.settings import PairSettings
from bfr.prior.constraint import Constraint
from bfr.prior.settings import SampleSettings
from bfr.records import Face, FaceSet
from bfr.restore.load import from_spandrel
from bfr.restore.restorer import Restorer
from tests.portraits import face_at
from tests.priors import tiny_prior

SAMPLE = SampleSettings(Constraint(factor=4, start=3, stop=1), steps=20, batch_size=2)
SETTINGS = PairSettings(size=32, batch_size=3, sample=SAMPLE)
PLACES = ((40.0, 40.0), (110.0, 45.0), (75.0, 85.0))


class Known(Architecture):
    """An architecture by name only."""

    def __init__(self, id: str):
        super().__init__(id=id, detect=lambda state: False)

    def load(self, state_dict):
        raise NotImplementedError


class Paler(nn.Module):
    """A restorer that mixes in some grey; it counts the faces it saw."""

    def __init__(self, share: float = 0.3):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share), requires_grad=False)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return x.lerp(torch.full_like(x, 0.5), float(self.share))


def restorer(share: float = 0.3, architecture: str = "Other") -> Restorer:
    network = Paler(share)
    return from_spandrel(
        ImageModelDescriptor(
            network, network.state_dict(), Known(architecture), "SR", [], True, True, 1, 3, 3
        )
    )


def detector(weight: float = 0.5) -> Detector:
    """A stand-in; `stand_in` says what is found. Its weight is the least score that it knows."""
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, weight)
    nn.init.zeros_(network.bias)
    return Detector(network)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Lets the red of the first pixel say how many faces a photograph has; the images searched."""
    searched: list[Tensor] = []

    def detect_faces(images: Tensor, network: nn.Module, *, score: float, **_: object) -> FaceSet:
        searched.append(images)
        count = round(float(images[0, 0, 0, 0]) * 255)
        faces: list[Face] = [face_at(x, y, 22.0, 5.0) for x, y in PLACES[:count]]
        return FaceSet((tuple(faces),), (images.shape[2], images.shape[3]))

    for module in (crops, ready_crops):
        monkeypatch.setattr(module, "detect_faces", detect_faces)
    return searched


def photograph(path: Path, faces: int = 1, seed: int | None = None) -> Path:
    """Writes a picture with so many faces; its pixels follow from the seed, or from its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(hashlib.sha256(path.name.encode()).hexdigest()[:6], 16) if seed is None else seed
    small = np.random.default_rng(seed).integers(30, 226, (12, 15, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((150, 120), Image.Resampling.BICUBIC)).copy()
    image[0, 0] = faces, 0, 0
    Image.fromarray(image).save(path, format="PNG")
    return path


def build(photos: Path, out: Path, settings: PairSettings = SETTINGS, **options) -> BuildReport:
    """`build_pairs` with the stand-ins."""
    options = {
        "detector": detector(),
        "restorer": None if "guesses" in options else restorer(),
        "prior": tiny_prior(),
        **options,
    }
    return build_pairs(find_sources([photos]), out, settings=settings, **options)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder and their bytes, but for the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """The images that differ."""
    names = before.keys() | after.keys()
    return {name for name in names if name.endswith(".png") and before.get(name) != after.get(name)}


def alike(before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    """Whether two sets are the same but for rounding: what a network makes of a face may depend
    on the other faces in the batch in the last bit."""
    return before.keys() == after.keys() and all(
        _content(before[name]) == _content(after[name])
        if name.endswith(".jsonl")
        else np.abs(_pixels(before[name]) - _pixels(after[name])).max() <= 1
        for name in before
    )


def _content(lines: bytes) -> list[object]:
    entries = [json.loads(line) for line in lines.splitlines()]
    for entry in entries:
        if "target" in entry:
            entry["sha256"].pop("target")
    return entries


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)
