"""The registry of metrics: names, direction, needs, and how each is measured.

Tables, the validation of fine-tuning, the review of pairs, sweeps and the commands all read
`METRICS`; nothing else in the project names, orders or rounds a metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.identity import Identity, distance_of, readable
from ..faces.retinaface import Detector
from ..image.tensors import check_images
from .likeness import (
    consistency_psnr,
    find_landmarks,
    landmarks_apart,
    likeness_factor,
    psnr,
    ssim,
)
from .niqe import niqe
from .perceptual import Distance
from .texture import grain, sharpness

HIGHER, LOWER = "higher", "lower"

REFERENCE, GIVEN, ORIGINAL = "reference", "given", "original"
"""What a metric compares with: the clean faces, the faces that the measured ones were made from,
or the former if there are any and else the latter."""

DETECTOR, DISTANCE, IDENTITY = "detector", "distance", "identity"
"""Networks that a metric needs, by their names in `Tools`."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The networks and settings that metrics need; None leaves out those that need it.

    Attributes:
        detector: of `load_detector`.
        distance: of `load_distance`, on the device of the faces.
        identity: of `load_identity`; with a detector, crops that show no face, or one that is
            turned too far, have no identity.
        factor: the low-pass factor of the likeness; None for `likeness_factor`.
    """

    detector: Detector | None = None
    distance: Distance | None = None
    identity: Identity | None = None
    factor: int | None = None


@dataclass(frozen=True, eq=False)
class FaceBatch:
    """Faces and what the networks see in them, each computed once, when first asked for.

    Attributes:
        images: B×3×S×S RGB in [0, 1], aligned faces.
        tools: the networks.
    """

    images: Tensor
    tools: Tools = field(default_factory=Tools)

    @cached_property
    def landmarks(self) -> Tensor:
        """B×5×2 float64 landmarks, NaN where no face is found."""
        assert self.tools.detector is not None
        return find_landmarks(self.images, self.tools.detector)

    @cached_property
    def embeddings(self) -> Tensor:
        """B×D, NaN where a face cannot be read."""
        assert self.tools.identity is not None
        found = self.tools.identity.embed(self.images)
        if self.tools.detector is None:
            return found
        return found.where(readable(self.landmarks).to(found.device)[:, None], torch.nan)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per face.

    Attributes:
        key: its name in files.
        title: its name in words, with its unit; "{original}" and "{distance}" stand for what it
            compares with and for the perceptual distance (`Metric.titled`).
        short: its name under a picture.
        better: `HIGHER` or `LOWER`.
        digits: after the point.
        needs: what it cannot be measured without: one of `REFERENCE`, `GIVEN` and `ORIGINAL` if
            it compares, and the `Tools`.
        measure: ``measure(faces, other)`` to B values, NaN where a face has none; ``other`` is
            the batch that it compares with, None for a metric without reference.
        unit: follows the value under a picture.
        absent: what a picture says instead of NaN; nothing says nothing.
    """

    key: str
    title: str
    short: str
    better: str
    digits: int
    needs: tuple[str, ...]
    measure: Callable[[FaceBatch, FaceBatch], Tensor]
    unit: str = ""
    absent: str = ""

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.better == HIGHER else -1

    @property
    def against(self) -> str | None:
        """What it compares with, of `REFERENCE`, `GIVEN` and `ORIGINAL`; None for nothing."""
        return next((need for need in self.needs if need in (REFERENCE, GIVEN, ORIGINAL)), None)

    def titled(self, tools: Tools, original: str = "input") -> str:
        """The title with the names of what it compares with and by."""
        distance = "perceptual" if tools.distance is None else tools.distance.name
        return self.title.format(original=original, distance=distance)

    def words(self, value: float) -> str:
        """A value in few words, such as "sharp 2.41"; non-breaking spaces keep it together."""
        if math.isnan(value):
            return self.absent.replace(" ", "\u00a0")
        # Three significant digits: a picture has little room.
        number = "exactly" if math.isinf(value) else f"{value:#.3g}".rstrip(".") + self.unit
        return f"{self.short} {number}".replace(" ", "\u00a0")


def _clipped(faces: FaceBatch, other: FaceBatch) -> Tensor:
    """The share in percent of values that are black or white and were not before."""
    now, before = ((batch.images <= 0) | (batch.images >= 1) for batch in (faces, other))
    return 100 * (now & ~before).double().mean((1, 2, 3))


def _likeness(faces: FaceBatch, other: FaceBatch) -> Tensor:
    factor = faces.tools.factor or likeness_factor(faces.images.shape[-1])
    return consistency_psnr(faces.images, other.images, factor)


def _distance(faces: FaceBatch, other: FaceBatch) -> Tensor:
    assert faces.tools.distance is not None
    return faces.tools.distance.measure(faces.images, other.images)


METRICS: Mapping[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric(
            "psnr",
            "PSNR, dB",
            "PSNR",
            HIGHER,
            2,
            (REFERENCE,),
            lambda faces, other: psnr(faces.images, other.images),
            unit=" dB",
        ),
        Metric(
            "ssim",
            "SSIM",
            "SSIM",
            HIGHER,
            4,
            (REFERENCE,),
            lambda faces, other: ssim(faces.images, other.images),
        ),
        Metric(
            "distance",
            "{distance} distance",
            "distance",
            LOWER,
            4,
            (REFERENCE, DISTANCE),
            _distance,
        ),
        Metric(
            "likeness",
            "likeness to the input, dB",
            "like",
            HIGHER,
            2,
            (GIVEN,),
            _likeness,
            unit=" dB",
        ),
        Metric(
            "landmarks",
            "landmarks off the {original}'s, %",
            "moved",
            LOWER,
            2,
            (ORIGINAL, DETECTOR),
            lambda faces, other: 100 * landmarks_apart(faces.landmarks, other.landmarks),
            unit=" %",
            absent="no face",
        ),
        Metric(
            "identity",
            "identity, distance to the {original}",
            "identity",
            LOWER,
            3,
            (ORIGINAL, IDENTITY),
            lambda faces, other: distance_of(faces.embeddings, other.embeddings),
            absent="identity unknown",
        ),
        Metric("niqe", "NIQE", "niqe", LOWER, 2, (), lambda faces, _: niqe(faces.images)),
        Metric(
            "sharpness",
            "sharpness",
            "sharp",
            HIGHER,
            2,
            (),
            lambda faces, _: sharpness(faces.images),
        ),
        Metric("grain", "grain", "grain", LOWER, 1, (), lambda faces, _: grain(faces.images)),
        Metric("clipped", "clipped values, %", "clipped", LOWER, 2, (GIVEN,), _clipped, unit=" %"),
    )
}
"""All metrics by their keys, in the order in which they are shown."""


def caption(values: Mapping[str, float | None]) -> str:
    """The values of one face in few words, such as "like 38.2 dB  sharp 2.41".

    Args:
        values: by the metrics' keys; None leaves one out, NaN says what is absent.
    """
    words = (METRICS[key].words(value) for key, value in values.items() if value is not None)
    return "  ".join(filter(None, words))


def check_faces(faces: Tensor, name: str) -> None:
    """Raises InputError unless ``faces`` are aligned ones, N×3×S×S RGB in [0, 1], N at least 1."""
    check_images(faces, name)
    if not len(faces) or faces.shape[-1] != faces.shape[-2]:
        raise InputError(
            f"{name} must be square, aligned faces, got {len(faces)} of {faces.shape[-1]}×"
            f"{faces.shape[-2]} pixels. Align the faces first."
        )
    if faces.min() < 0 or faces.max() > 1:
        raise InputError(
            f"{name} must lie in [0, 1], got {float(faces.min()):.3g} to "
            f"{float(faces.max()):.3g}. Clamp them first."
        )
