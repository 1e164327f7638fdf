"""The records of a pair and of a photograph: the lines of a pairs folder's lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .format import FLAGGED, KEPT, REJECTED


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph, as far as it is known; a line of ``sources.jsonl``.

    Attributes:
        path: the file.
        bytes: its length, which with ``modified`` tells whether it must be read again.
        modified: its time of modification in nanoseconds.
        sha256: its checksum, by which a photograph is known whatever its name.
        faces: how many faces were found in it; None if that is not known.
        size: (height, width) of the upright photograph; (0, 0) if that is not known.
        crop: the parameters with which they were found.
    """

    path: str
    bytes: int
    modified: int
    sha256: str
    faces: int | None = None
    size: Sequence[int] = (0, 0)
    crop: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair; a line of ``manifest.jsonl``.

    ``crop``, ``guess`` and ``target`` hold the parameters that each image was made with, or
    nothing where it is not made yet. Those of the guess hold the checksum of its crop, and those
    of the target the checksum of its guess, so an image is made again exactly when something it
    depends on has changed.

    Attributes:
        name: the images' file name without suffix.
        source: the photograph's path, or the name of a crop without a photograph.
        source_sha256: its checksum.
        face: the face's number in the photograph, from 0.
        image_to_crop: 2×3 matrix from pixels of the upright photograph to pixels of the crop.
        landmarks: the face's five (x, y) landmarks in pixels of the upright photograph.
        score: the detector's confidence in [0, 1].
        crop: detector, lowest score and size, crop size.
        guess: restorer and fidelity, or the file that the guess came from.
        target: prior, seed, and all sampling settings.
        sha256: the checksums of the image files by their kind.
        status: "kept" or "rejected".
        reason: why it was rejected; "by hand" also if it was kept by hand.
        flags: what stands out, as the review found.
        measures: the metrics that the flags follow from; None where one cannot be had.
    """

    name: str
    source: str
    source_sha256: str
    face: int
    image_to_crop: Sequence[Sequence[float]]
    landmarks: Sequence[Sequence[float]]
    score: float
    crop: Mapping[str, Any] = field(default_factory=dict)
    guess: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    status: str = KEPT
    reason: str = ""
    flags: Sequence[str] = ()
    measures: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def guessed(self) -> bool:
        """True once its guess is made from the present crop."""
        return "guess" in self.sha256 and self.guess.get("lq") == self.sha256.get("lq")

    @property
    def complete(self) -> bool:
        """True once its target is made from the present guess and crop."""
        present = "target" in self.sha256 and self.target.get("guess") == self.sha256.get("guess")
        return present and self.guessed

    @property
    def settled(self) -> bool:
        """True if it was rejected by hand and not for its flags: it is not made again."""
        return self.status == REJECTED and not self.reason.startswith(FLAGGED)
