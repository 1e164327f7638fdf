"""One photograph from file to file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..faces.identity import Identity
from ..faces.occlusion import Occlusion
from ..faces.parsing import Parser
from ..faces.retinaface import Detector
from ..files.masks import read_mask
from ..files.photos import read_photo
from ..files.places import local_copy
from ..files.whole import copy_file
from ..files.writing import levels_of, write_levels
from ..records import Face, OnStep
from ..runtime.memory import give_back
from .enlarge import enlarge_mask
from .keep_person import KeptPeople
from .photo import restore_photo
from .repair import repair_scratches
from .restorer import Restorer
from .scratches import ScratchFinder, find_scratches
from .settings import RestoreSettings
from .upscale import Upscaler


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """The faces restored in a photograph, and what a report says of them.

    Attributes:
        faces: where they are.
        people: whether they are the same people.
        covered: how much of each lies behind something, 0 to 1.
    """

    faces: tuple[Face, ...]
    people: KeptPeople
    covered: tuple[float, ...]

    def entries(self) -> list[dict[str, float | None]]:
        """What a report says of each face."""
        return [
            {**person, "covered_share": round(share, 3)}
            for person, share in zip(self.people.entries(), self.covered, strict=True)
        ]


def restore_file(
    source: Path,
    target: Path,
    detector: Detector,
    restorer: Restorer,
    settings: RestoreSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
    cleaner: Upscaler | None = None,
    occlusion: Occlusion | None = None,
    scratches: Path | ScratchFinder | None = None,
) -> RestoredFile:
    """Restores the faces of a photograph; copies the file if nothing changes.

    Args:
        source: the photograph, local or remote.
        target: where the result goes, in the format of its suffix; a local folder exists.
        detector, restorer, settings, parser, on_step, upscaler, identity, cleaner, occlusion: as
            of `restore_photo`.
        scratches: what is repaired first: a mask (`read_mask`), or what a network finds
            (`load_scratch_finder`); None for nothing.

    Raises:
        ImageError: if it is no photograph, or the mask no image.
        InputError: if the mask has another size.
        OutputError: if the result cannot be written.
    """
    with local_copy(source) as original:
        photo = read_photo(original)
        mask = None if scratches is None else _mask_of(photo.pixels, scratches)
        repaired = mask is not None and bool((mask > 0.5).any())
        if mask is not None and repaired:
            photo = replace(photo, pixels=repair_scratches(photo.pixels, mask, detector, restorer))
        restored = restore_photo(
            photo.pixels,
            detector,
            restorer,
            settings,
            parser=parser,
            on_step=on_step,
            upscaler=upscaler,
            identity=identity,
            in_place=True,
            cleaner=cleaner,
            occlusion=occlusion,
        )
        (faces,), factor, people = restored.faces.faces, restored.factor, restored.people
        covered = restored.covered
        alpha = None if photo.alpha is None else enlarge_mask(photo.alpha, factor)
        photo = replace(photo, pixels=restored.images, alpha=alpha)
        del restored  # large photographs go step by step: each needs the room of the one before
        give_back()
        cleaned = settings is not None and settings.background
        if faces or factor > 1 or cleaned or repaired:
            levels = levels_of(target, photo)
            del photo
            write_levels(target, levels)
        else:
            copy_file(original, target)
    return RestoredFile(faces, people, covered)


def _mask_of(pixels: Tensor, scratches: Path | ScratchFinder) -> Tensor:
    if isinstance(scratches, ScratchFinder):
        return find_scratches(pixels, scratches)
    return read_mask(scratches, (pixels.shape[-2], pixels.shape[-1]))
