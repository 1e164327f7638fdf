"""The whole chain in one call: detect, align, restore and paste."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.parsing import Parser
from ..faces.paste import paste_faces
from ..faces.retinaface import Detector
from ..image.tensors import luma
from ..records import Alignment, FaceSet, OnStep
from ..runtime.progress import within
from .restorer import Restorer, restore_faces

DEFAULT_CROP_SIZE = 512
"""Side in pixels of the aligned crops of a restorer that takes any size."""

_STEPS = 10  # of progress an image: one to find its faces, eight to restore, one to paste


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSettings:
    """How `restore_photo` treats the faces; see the stages for what each value means.

    Attributes:
        score: least confidence in [0, 1] of a face (`detect_faces`).
        min_size: least longer box side in pixels; smaller faces are left alone.
        crop_size: side in pixels of the aligned crops; None for the restorer's own size.
        fidelity: 0 (best looking) to 1 (closest to the input), for restorers that have it.
        strength: blend from the input (0) to the restored face (1).
        lock: how much of the input's low frequencies stays, 0 to 1 (`restore_faces`).
        colour: how the faces' colours are matched to the photograph (`paste_faces`).
        mask: which part of a crop is pasted (`paste_faces`); "auto" is "parsing" where there
            is a parser and "soft oval" else.
        feather: width of the mask's soft edge (`paste_faces`).
        batch_size: faces that go through the restorer at once.
    """

    score: float = 0.5
    min_size: float = 0.0
    crop_size: int | None = None
    fidelity: float = 0.5
    strength: float = 1.0
    lock: float = 0.0
    colour: str = "low frequency"
    mask: str = "auto"
    feather: float = 0.1
    batch_size: int = 8


@dataclass(frozen=True, slots=True)
class RestoredPhoto:
    """What `restore_photo` made of a batch of B images with N faces.

    Attributes:
        images: B×3×H×W float32 RGB in [0, 1]; bit-identical to the input where ``masks`` is 0.
        masks: B×1×H×W float32 in [0, 1], how much of each pixel was replaced.
        faces: the faces of each image; an image without one came through untouched.
        crops: N×3×S×S float32 RGB in [0, 1], the restored aligned faces at full strength.
        alignment: where the crops belong.
    """

    images: Tensor
    masks: Tensor
    faces: FaceSet
    crops: Tensor
    alignment: Alignment


def restore_photo(
    images: Tensor,
    detector: Detector,
    restorer: Restorer,
    settings: RestoreSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
) -> RestoredPhoto:
    """Restores every face of a batch of photographs.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        settings: how the faces are treated; None for the defaults.
        parser: of `load_parser`, for a mask that follows the face's outline.
        on_step: progress over all stages; the preview is a batch of restored crops.

    Returns:
        The photographs on the device of ``images``. One without a face comes back as it is, and
        ``faces`` holds an empty tuple in its place. A grey one stays grey.

    Raises:
        InputError: images that are no finite B×3×H×W batch, or a setting out of its range.
    """
    settings = settings or RestoreSettings()
    mask = chosen_mask(settings, parser)

    def stage(start: int, stop: int) -> OnStep:
        """Progress within one stage: the steps from start to stop of each image."""
        count = len(images)
        return within(on_step, start * count, stop * count, _STEPS * count)

    faces = detect_faces(
        images, detector, score=settings.score, min_size=settings.min_size, on_step=stage(0, 1)
    )
    size = settings.crop_size or restorer.size or DEFAULT_CROP_SIZE
    crops, alignment = align_faces(images, faces, size)
    restored = restore_faces(
        crops,
        restorer,
        fidelity=settings.fidelity,
        lock=settings.lock,
        batch_size=settings.batch_size,
        on_step=stage(1, 9),
    )
    pasted, masks = paste_faces(
        images,
        restored,
        alignment,
        mask=mask,
        parser=parser if mask == "parsing" else None,
        feather=settings.feather,
        colour=settings.colour,
        strength=settings.strength,
    )
    pasted = keep_grey(images, pasted, masks)
    stage(9, 10)(1, 1, None)
    return RestoredPhoto(pasted, masks, faces, restored, alignment)


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
    grey = (images == images[:, :1]).flatten(1).all(1)[:, None, None, None]
    if not grey.any():
        return pasted
    return torch.where(grey & (masks > 0), luma(pasted).clamp(0, 1), pasted)
