"""The whole chain in one call: detect, align, restore and paste."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.doubt import set_aside
from ..faces.identity import Identity
from ..faces.parsing import Parser
from ..faces.paste import paste_faces
from ..faces.retinaface import Detector
from ..image.tensors import luma
from ..records import Alignment, FaceSet, OnStep
from ..runtime.progress import within
from .enlarge import check_factor, check_room, chosen_factor, enlarge
from .keep_person import KeptPeople, keep_person
from .restorer import Restorer, restore_faces
from .upscale import Upscaler

DEFAULT_CROP_SIZE = 512
"""Side in pixels of the aligned crops of a restorer that takes any size."""

_STEPS = 10  # of progress per image: 1 to find its faces, 6 to restore, 2 to enlarge, 1 to paste


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSettings:
    """How `restore_photo` treats the faces; see the stages for what each value means.

    Attributes:
        score: least confidence in [0, 1] of a face (`detect_faces`).
        min_size: least longer box side in pixels; smaller faces are left alone.
        crop_size: side in pixels of the aligned crops; None for the restorer's own size.
        fidelity: 0 (best looking) to 1 (closest to the input), for restorers that have it.
        strength: blend from the input (0) to the restored face (1).
        lock: how much of the coarse shapes of the input face stays, 0 to 1, down to 1/64 of the
            crop (`restore_faces`).
        keep_person: how little a face may become somebody else, 0 to 1 (`keep_person`).
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


@dataclass(frozen=True, slots=True)
class RestoredPhoto:
    """What `restore_photo` made of a batch of B images with N faces.

    Attributes:
        images: B×3×H'×W' float32 RGB in [0, 1], H' and W' being ``factor`` times the input's;
            bit-identical to the (enlarged) input where ``masks`` is 0.
        masks: B×1×H'×W' float32 in [0, 1], how much of each pixel was replaced.
        faces: the faces of each image, in pixels of the input; where there are none, only the
            size changed.
        crops: N×3×S×S float32 RGB in [0, 1], the restored aligned faces at full strength.
        alignment: where the crops belong, in pixels of the input.
        factor: by which the photographs were enlarged.
        left: the doubtful faces of each image, which were left alone.
        people: whether the restored faces, in the crops' order, are still the same people.
    """

    images: Tensor
    masks: Tensor
    faces: FaceSet
    crops: Tensor
    alignment: Alignment
    factor: int
    left: FaceSet
    people: KeptPeople


def restore_photo(
    images: Tensor,
    detector: Detector,
    restorer: Restorer,
    settings: RestoreSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
    in_place: bool = False,
) -> RestoredPhoto:
    """Restores every face of a batch of photographs.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        settings: how the faces are treated; None for the defaults.
        parser: of `load_parser`, for a mask that follows the face's outline.
        on_step: progress over all stages; the preview is a batch of restored crops.
        upscaler: a network that enlarges; None resamples (`enlarge`).
        identity: of `load_identity`, which keeps the person and measures it; None for neither.
        in_place: restore the faces in ``images`` itself, where it is not enlarged: it saves the
            memory of a copy of large photographs.

    Returns:
        The photographs on the device of ``images``. One without a face comes back as it is or
        only enlarged, and ``faces`` holds an empty tuple in its place. A grey one stays grey.

    Raises:
        InputError: images that are no finite B×3×H×W batch, or a setting out of its range.
        OutOfMemoryError: if the enlarged photographs would not fit into memory.
    """
    settings = settings or RestoreSettings()
    check_factor(settings.enlarge)
    mask = chosen_mask(settings, parser)

    def stage(start: int, stop: int) -> OnStep:
        """Progress within one stage: the steps from start to stop of each image."""
        count = len(images)
        return within(on_step, start * count, stop * count, _STEPS * count)

    faces = detect_faces(
        images, detector, score=settings.score, min_size=settings.min_size, on_step=stage(0, 1)
    )
    faces, left = (
        (faces, no_faces(faces)) if settings.doubtful else set_aside(images, faces, detector)
    )
    size = crop_size_of(settings, restorer)
    crops, alignment = align_faces(images, faces, size)
    factor = chosen_factor(settings.enlarge, alignment.faces, size, faces.image_size)
    check_room(images.shape, factor, images.device)  # before the work of restoring
    restored = restore_faces(
        crops,
        restorer,
        fidelity=settings.fidelity,
        lock=settings.lock,
        lock_factor=person_factor(size),
        batch_size=settings.batch_size,
        on_step=stage(1, 7),
    )
    people = keep_person(crops, restored, alignment.faces, identity, settings.keep_person)
    restored = people.crops
    large = enlarge(images, factor, upscaler, stage(7, 9))
    grey = find_grey(images)
    pasted, masks = paste_faces(
        large,
        restored,
        alignment,
        mask=mask,
        parser=parser if mask == "parsing" else None,
        before=crops,
        feather=settings.feather,
        colour=settings.colour,
        strength=settings.strength,
        grain=settings.grain,
        seed=settings.seed,
        in_place=in_place or large is not images,
    )
    pasted = without_tint(grey, pasted, masks)
    stage(9, 10)(1, 1, None)
    return RestoredPhoto(pasted, masks, faces, restored, alignment, factor, left, people)


def no_faces(faces: FaceSet) -> FaceSet:
    """None in any of the same images."""
    return FaceSet(((),) * len(faces.faces), faces.image_size)


def crop_size_of(settings: RestoreSettings, restorer: Restorer) -> int:
    """Side in pixels of the aligned crops."""
    return settings.crop_size or restorer.size or DEFAULT_CROP_SIZE


def person_factor(size: int) -> int:
    """The low-pass factor of ``lock``: the divisor of the crop size that is nearest to 1/64 of it.

    Colours and light are the photograph's anyway (``colour``); the person is in shapes of a few
    pixels more than that.
    """
    divisors = [n for n in range(2, size + 1) if size % n == 0]
    return min(divisors, key=lambda n: abs(n - size / 64))


def chosen_mask(settings: RestoreSettings, parser: Parser | None) -> str:
    """The mask that the settings mean, of `bfr.faces.paste.MASKS`.

    Raises:
        InputError: for "parsing" without a parser.
    """
    if settings.mask == "auto":
        return "soft oval" if parser is None else "parsing"
    if settings.mask == "parsing" and parser is None:
        raise InputError('mask "parsing" needs a parser; load one, or choose another mask.')
    return settings.mask


def keep_grey(images: Tensor, pasted: Tensor, masks: Tensor) -> Tensor:
    """Takes the tint that a restorer gave to the faces of images without any colour.

    Args:
        images: B×3×H×W in [0, 1], as they came.
        pasted: the same with restored faces.
        masks: B×1×H×W, how much of each pixel was replaced.

    Returns:
        ``pasted``, its faces grey wherever the whole image was.
    """
    return without_tint(find_grey(images), pasted, masks)


def without_tint(grey: Tensor, pasted: Tensor, masks: Tensor) -> Tensor:
    """`keep_grey`, where it is known which images were grey (`find_grey`)."""
    if not grey.any():
        return pasted
    return torch.where(grey & (masks > 0), luma(pasted).clamp(0, 1), pasted)


def find_grey(images: Tensor) -> Tensor:
    """B×1×1×1, whether all pixels of an image are grey."""
    # Most photographs in colour are told by a few pixels; the others are read whole.
    few = _are_grey(images[:, :, ::16, ::16])
    return _are_grey(images) if few.any() else few


def _are_grey(images: Tensor) -> Tensor:
    """B×1×1×1, whether all pixels of an image are grey."""
    return (images == images[:, :1]).flatten(1).all(1)[:, None, None, None]
