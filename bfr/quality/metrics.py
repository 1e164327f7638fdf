"""The registry of metrics: names, direction, needs, and how each is measured.

Tables, the validation of fine-tuning, the review of pairs, sweeps and the commands all read
`METRICS`; nothing else in the project names, orders or rounds a metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..faces.identity import distance_of
from .face_batch import FaceBatch, Tools
from .likeness import (
    consistency_psnr,
    landmarks_apart,
    likeness_factor,
    psnr,
    ssim,
)
from .niqe import niqe
from .texture import grain, sharpness

HIGHER, LOWER = "higher", "lower"

REFERENCE, GIVEN, ORIGINAL = "reference", "given", "original"
"""What a metric compares with: the clean faces, the faces that the measured ones were made from,
or the former if there are any and else the latter."""

DETECTOR, DISTANCE, IDENTITY = "detector", "distance", "identity"
"""Networks that a metric needs, by their names in `Tools`."""


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
        """The faces it compares with: `REFERENCE`, `GIVEN` or `ORIGINAL`; None for none."""
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
