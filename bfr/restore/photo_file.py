"""One photograph from file to file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..faces.identity import Identity
from ..faces.occlusion import Occlusion
from ..faces.parsing import Parser
from ..faces.person import Person
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
from .photo import RestoredPhoto, restore_photo
from .repair import repair_scratches
from .restorer import Restorer
from .scratches import ScratchFinder, find_scratches
from .settings import RestoreSettings, crop_size_of
from .summary import Count, summary
from .upscale import Upscaler


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """The faces restored in a photograph, and what a report says of them.

    Attributes:
        faces: where they are.
        people: whether they are the same people.
        covered: how much of each lies behind something, 0 to 1.
        apart: how far each is from the wanted person; empty if all were wanted.
        count: of what was done.
        told: what was done, in a sentence.
    """

    faces: tuple[Face, ...]
    people: KeptPeople
    covered: tuple[float, ...]
    apart: tuple[float, ...]
    count: Count
    told: str

    def entries(self) -> list[dict[str, float | None]]:
        """The entries of a report about each face."""
        entries = [
            {**kept, "covered_share": round(share, 3)}
            for kept, share in zip(self.people.entries(), self.covered, strict=True)
        ]
        for entry, distance in zip(entries, self.apart, strict=False):
            entry["person_distance"] = round(distance, 3)
        return entries


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
    person: Person | None = None,
    overwrite: bool = True,
) -> RestoredFile:
    """Restores the faces of a photograph; copies the file if nothing changes.

    Args:
        source: the photograph, local or remote.
        target: where the result goes, in the format of its suffix; a local folder exists.
        detector, restorer, settings, parser, on_step, upscaler, identity, cleaner, occlusion,
            person: as of `restore_photo`.
        scratches: what is repaired first: a mask (`read_mask`), or what a network finds
            (`load_scratch_finder`); None for nothing.
        overwrite: whether a file in the result's place is replaced.

    Raises:
        ImageError: if it is no photograph, or the mask no image.
        InputError: if the mask has another size.
        OutputError: if the result cannot be written.
    """
    settings = settings or RestoreSettings()
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
            person=person,
            masks=False,
        )
        done = _about(restored, settings, restorer, repaired)
        factor = done.count.factor
        alpha = None if photo.alpha is None else enlarge_mask(photo.alpha, factor)
        photo = replace(photo, pixels=restored.images, alpha=alpha)
        del restored  # large photographs go step by step: each needs the room of the one before
        give_back()
        if done.faces or factor > 1 or settings.background or repaired:
            levels = levels_of(target, photo)
            del photo
            write_levels(target, levels, overwrite)
        else:
            copy_file(original, target, overwrite)
    return done


def _about(
    restored: RestoredPhoto, settings: RestoreSettings, restorer: Restorer, repaired: bool
) -> RestoredFile:
    """The report on a photograph, after its pixels are freed."""
    (faces,), (left,), found = restored.faces.faces, restored.left.faces, restored.resemblance
    told = summary(
        faces,
        left,
        crop_size=crop_size_of(settings, restorer),
        factor=restored.factor,
        size=(restored.images.shape[2], restored.images.shape[3]),
        background=settings.background,
        covered=restored.covered,
        person=None if found is None else (found.chosen[0], found.others[0]),
        repaired=repaired,
    )
    return RestoredFile(
        faces,
        replace(restored.people, crops=restored.people.crops[:0]),
        restored.covered,
        () if found is None else found.chosen[0],
        Count(len(faces), len(left), restored.factor),
        told,
    )


def _mask_of(pixels: Tensor, scratches: Path | ScratchFinder) -> Tensor:
    if isinstance(scratches, ScratchFinder):
        return find_scratches(pixels, scratches)
    return read_mask(scratches, (pixels.shape[-2], pixels.shape[-1]))
