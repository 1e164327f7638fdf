"""Settings of the restoration of photographs and clips, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..faces.parsing import Parser
from .enlarge import check_factor
from .restorer import Restorer

DEFAULT_CROP_SIZE = 512
"""Side in pixels of the aligned crops of a restorer that takes any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSettings:
    """The settings of `restore_photo`; the stages say what each value means.

    Attributes:
        score: least confidence in [0, 1] of a face (`detect_faces`).
        min_size: least longer box side in pixels; smaller faces are left alone.
        crop_size: side in pixels of the aligned crops; None for the restorer's own size.
        fidelity: 0 (best looking) to 1 (closest to the input), for restorers that have it.
        strength: blend from the input (0) to the restored face (1).
        lock: how much of the coarse shapes of the input face stays, 0 to 1, down to 1/64 of the
            crop (`restore_faces`).
        keep_person: how strictly a face must stay the same person, 0 to 1 (`keep_person`).
        colour: how the faces' colours are matched to the photograph (`paste_faces`).
        mask: which part of a crop is pasted (`paste_faces`); "auto" is "parsing" where there
            is a parser and "soft oval" else.
        feather: width of the mask's soft edge (`paste_faces`).
        batch_size: faces that go through the restorer at once.
        enlarge: "auto" (so that the faces reach the size at which they are restored), 1, 2 or 4
            (`bfr.restore.enlarge`); one factor for a whole batch.
        grain: how much of the photograph's grain the faces get, 0 to 1 (`paste_faces`).
        seed: draws the grain.
        doubtful: whether to restore what is hardly a face, too (`bfr.faces.doubt`).
        numbers: which faces to restore, from 1, doubtful or not; None for all.
        numbering: what the numbers count by (`bfr.faces.numbering`).
        background: how much noise, grain and JPEG are taken out of the whole photograph, 0 to 1
            (`restore_background`); 0 leaves what is around the faces as it is.
    """

    score: float = 0.5
    min_size: float = 0.0
    crop_size: int | None = None
    fidelity: float = 0.5
    strength: float = 1.0
    lock: float = 0.0
    keep_person: float = 0.5
    colour: str = "low frequency"
    mask: str = "auto"
    feather: float = 0.1
    batch_size: int = 8
    enlarge: int | str = 1
    grain: float = 0.0
    seed: int = 0
    doubtful: bool = True
    numbers: tuple[int, ...] | None = None
    numbering: str = "size"
    background: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings(RestoreSettings):
    """The settings of a clip: those of each frame, and these.

    Attributes:
        smoothing: spread in frames over which the landmarks are smoothed (`smooth_track`).
        steadiness: spread in frames over which restored faces are averaged (`steady_face`).
        max_gap: missed frames in a row that are bridged (`link_faces`).
        chunk: frames in memory at once; the result does not depend on it.
    """

    smoothing: float = 3.0
    steadiness: float = 1.5
    max_gap: int = 4
    chunk: int = 16


def crop_size_of(settings: RestoreSettings, restorer: Restorer) -> int:
    """Side in pixels of the aligned crops."""
    return settings.crop_size or restorer.size or DEFAULT_CROP_SIZE


def chosen_mask(settings: RestoreSettings, parser: Parser | None) -> str:
    """The mask that the settings mean, of `bfr.faces.paste.MASKS`.

    Raises:
        InputError: for "parsing" without a parser.
    """
    if settings.mask == "auto":
        return "soft oval" if parser is None else "parsing"
    if settings.mask == "parsing" and parser is None:
        raise InputError(
            'mask "parsing" needs a parser, got none. Load one, or choose another mask.'
        )
    return settings.mask


def check_settings(settings: VideoSettings, parser: Parser | None) -> None:
    """Refuses impossible settings.

    Raises:
        InputError: a chunk without a frame, a negative steadiness, a background, numbers of faces,
            or a mask "parsing" without a parser.
    """
    if settings.numbers is not None:
        raise InputError(
            f"numbers must be None for a clip, got {settings.numbers}: they change from frame to "
            "frame. Restore all its faces."
        )
    if settings.background:
        raise InputError(
            f"background must be 0 for a clip, got {settings.background}: it would flicker. "
            "Denoise the clip with a video denoiser first."
        )
    if settings.chunk < 1:
        raise InputError(f"chunk must be at least 1 frame, got {settings.chunk}.")
    if not settings.steadiness >= 0:
        raise InputError(f"steadiness must be at least 0 frames, got {settings.steadiness}.")
    check_factor(settings.enlarge)
    chosen_mask(settings, parser)
