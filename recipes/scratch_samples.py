"""Patches of photographs as prints and scans of them, with scratches or without.

Before and after scratches are drawn, a patch is blurred, printed in grey, given grain and
compressed. Many patches stay whole, and many get thin things of a scene (`recipes.scene_lines`), a
frame or writing, so that those count as photograph.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from .scene_lines import put_lines
from .scratch_shapes import put_scratches
from .squares import shipped

FOLDERS = {
    "train/congress": 0.22,
    "train/headshots": 0.2,
    "train/generated_wild": 0.16,
    "train/generated_diverse": 0.12,
    "train/wiki": 0.14,
    "real_lq/portraits_tune": 0.16,
}
"""Where the photographs are, and how often each folder is drawn."""

SHIPPED = ("chelsea", "coffee", "rocket", "camera", "coins", "brick", "grass", "gravel")
SHIPPED_SHARE = 0.14  # of the patches: scikit-image's photographs, of things that portraits lack
OLD = ("train/wiki", "real_lq/portraits_tune")  # may have scratches of their own
OLD_WEIGHT = 0.6  # of what is found there beside the drawn ones
WHOLE = 0.45  # share of patches without a scratch
PATCH = 256
AGAIN = 240  # drawn patches from which old ones are shown again
SCALES = (0.5, 2.5)


class Scratched(IterableDataset):
    """Endless (photograph 3×P×P in [0, 1], scratches 1×P×P of 0 or 1, weights 1×P×P)."""

    def __init__(self, data: Path, seed: int, patch: int = PATCH):
        self.seed, self.patch = seed, patch
        cv2.setNumThreads(1)  # here: a forked loader would wait for the threads it did not get
        self.files = {name: sorted((data / name).iterdir()) for name in FOLDERS}
        self.shipped = [image[0].permute(1, 2, 0).numpy() for image in shipped(SHIPPED)]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        names, shares = list(FOLDERS), np.array(list(FOLDERS.values()))
        drawn: list[tuple[Tensor, ...]] = []
        while True:
            name = ""
            if rng.random() < SHIPPED_SHARE:
                photograph = self.shipped[rng.integers(len(self.shipped))]
            else:
                name = names[rng.choice(len(names), p=shares / shares.sum())]
                photograph = read(self.files[name][rng.integers(len(self.files[name]))])
            pixels, found, unsure = scratch_patch(draw_patch(photograph, self.patch, rng), rng)
            weights = np.where(unsure, 0.0, 1.0)
            if name in OLD:
                weights = np.where(found, 1.0, OLD_WEIGHT * weights)
            new = (
                torch.from_numpy(pixels).permute(2, 0, 1).contiguous(),
                torch.from_numpy(found[None].astype(np.float32)),
                torch.from_numpy(weights[None].astype(np.float32)),
            )
            yield new
            if len(drawn) < AGAIN:
                drawn.append(new)
            else:  # drawing takes as long as learning: each is shown again, later and mirrored
                for place, axes in zip(rng.integers(AGAIN, size=2), ((-1,), (-2, -1)), strict=True):
                    yield tuple(part.flip(axes) for part in drawn[place])
                drawn[int(rng.integers(AGAIN))] = new


def read(path: Path) -> np.ndarray:
    """A photograph, H×W×3 float32 RGB in [0, 1]."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None, path
    return pixels[..., ::-1].astype(np.float32) / 255


def draw_patch(photograph: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a photograph at a random size, mirrored and turned."""
    scale = np.exp(rng.uniform(*np.log(SCALES)))
    scale = max(scale, (side + 1) / min(photograph.shape[:2]))
    part = max(2, min(round(side / scale), *photograph.shape[:2]))
    y, x = (int(rng.integers(0, length - part + 1)) for length in photograph.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    patch = cv2.resize(photograph[y : y + part, x : x + part], (side, side), interpolation=way)
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.3:
        patch = np.rot90(patch, int(rng.integers(1, 4)))
    return np.ascontiguousarray(patch.clip(0, 1))


def scratch_patch(
    patch: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A patch as a print and as a scan of it, with scratches or without (`put_scratches`)."""
    if rng.random() < 0.4:
        patch = put_lines(patch, rng)
    elif rng.random() < 0.5:  # the lens; a scratch is sharper than what it shows
        patch = cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.4, 1.6))
    patch = _with_frame(patch, rng)
    if rng.random() < 0.5:
        patch = np.repeat(patch @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, 2)
        if rng.random() < 0.5:  # faded, and toned
            low, high = rng.uniform(0, 0.2), rng.uniform(0.75, 1)
            patch = (low + (high - low) * patch) * [1, rng.uniform(0.85, 1), rng.uniform(0.7, 1)]
    patch = as_picture(patch.astype(np.float32), rng)
    none = np.zeros(patch.shape[:2], bool)
    scratched, found, unsure = patch, none, none
    if rng.random() >= WHOLE:
        scratched, found, unsure = put_scratches(patch, rng)
    return as_picture(scratched, rng, soft=0.7), found, unsure


def _with_frame(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A print's white border with its line, or writing; neither is a scratch."""
    side, drawn = patch.shape[0], patch.copy()
    if rng.random() < 0.12:
        width = int(rng.integers(2, 30))
        shade = rng.uniform(0.75, 1)
        edges = rng.random(4) < 0.4
        for part, there in zip(
            (drawn[:width], drawn[-width:], drawn[:, :width], drawn[:, -width:]), edges, strict=True
        ):
            if there:
                part[:] = shade
                if rng.random() < 0.3:
                    part[-1:] = 0.2
    if rng.random() < 0.08:
        place = (int(rng.integers(-20, side // 2)), int(rng.integers(20, side)))
        words = "".join(chr(rng.integers(33, 123)) for _ in range(int(rng.integers(3, 16))))
        letters = np.zeros(patch.shape[:2], np.uint8)
        size, thick = rng.uniform(0.4, 1.6), int(rng.integers(1, 4))
        font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX]))
        cv2.putText(letters, words, place, font, size, 255, thick, cv2.LINE_AA)
        drawn[letters > 127] = rng.choice([0.05, 0.95])
    return drawn


def as_picture(pixels: np.ndarray, rng: np.random.Generator, soft: float = 1.5) -> np.ndarray:
    """A little blur, grain of some size, and compression, each of them sometimes.

    Args:
        pixels: H×W×3 in [0, 1].
        rng: draws them.
        soft: the largest blur in pixels.

    Returns:
        H×W×3 float32 in [0, 1].
    """
    height, width = pixels.shape[:2]
    if rng.random() < 0.35:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, soft))
    if rng.random() < 0.5:
        coarse = rng.uniform(1, 2.5)
        planes = 1 if rng.random() < 0.6 else 3
        size = (max(1, round(width / coarse)), max(1, round(height / coarse)))
        noise = rng.standard_normal((size[1], size[0], planes), np.float32)
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = noise.reshape(height, width, planes)
        pixels = pixels + np.exp(rng.uniform(np.log(0.004), np.log(0.06))) * noise
    pixels = pixels.clip(0, 1).astype(np.float32)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 97))]
        _, packed = cv2.imencode(
            ".jpg", (pixels[..., ::-1] * 255).round().astype(np.uint8), quality
        )
        decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        assert decoded is not None
        pixels = decoded[..., ::-1].astype(np.float32) / 255
    return np.ascontiguousarray(pixels)
