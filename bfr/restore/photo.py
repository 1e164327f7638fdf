"""The whole chain in one call: detect, align, restore and paste."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.doubt import set_aside
from ..faces.identity import Identity
from ..faces.numbering import number_faces
from ..faces.occlusion import Occlusion, covered_shares, find_in_front
from ..faces.parsing import Parser
from ..faces.person import Person, Resemblance, choose_person
from ..faces.retinaface import Detector
from ..faces.select import select_faces
from ..records import Alignment, FaceSet, OnStep
from ..runtime.progress import within
from .background import check_cleaner, check_strength, restore_background
from .enlarge import check_factor, check_room, chosen_factor, enlarge
from .grey import find_grey
from .keep_person import KeptPeople
from .restorer import Restorer
from .settings import RestoreSettings, chosen_mask, crop_size_of
from .stages import paste_crops, restore_crops
from .upscale import Upscaler

_STEPS = 10  # of progress per image: 1 to find its faces, 5 to restore, 1 to clean, 2 to enlarge


@dataclass(frozen=True, slots=True)
class RestoredPhoto:
    """The result of `restore_photo` for a batch of B images with N faces.

    Attributes:
        images: B×3×H'×W' float32 RGB in [0, 1], H' and W' being ``factor`` times the input's;
            where ``masks`` is 0, bit-identical to the input, as it is cleaned and enlarged.
        masks: B×1×H'×W' float32 in [0, 1], how much of each pixel was replaced; B×1×0×W' where
            they were not asked for.
        faces: the faces of each image, in pixels of the input; where there are none, only the
            size changed.
        crops: N×3×S×S float32 RGB in [0, 1], the restored aligned faces at full strength.
        alignment: where the crops belong, in pixels of the input.
        factor: by which the photographs were enlarged.
        left: the doubtful faces of each image, which were left alone.
        people: whether the restored faces, in the crops' order, are still the same people.
        covered: how much of each face lies behind something, 0 to 1 (`covered_shares`).
        resemblance: how far the faces are from the wanted person; None if all were wanted.
    """

    images: Tensor
    masks: Tensor
    faces: FaceSet
    crops: Tensor
    alignment: Alignment
    factor: int
    left: FaceSet
    people: KeptPeople
    covered: tuple[float, ...]
    resemblance: Resemblance | None = None


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
    cleaner: Upscaler | None = None,
    occlusion: Occlusion | None = None,
    wanted: Tensor | None = None,
    person: Person | None = None,
    masks: bool = True,
) -> RestoredPhoto:
    """Restores the faces of a batch of photographs.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        settings: how the faces are treated; None for the defaults.
        parser: of `load_parser`, for a mask that follows the face's outline.
        on_step: progress over all stages; the preview is a batch of restored crops.
        upscaler: a network that enlarges; None resamples (`enlarge`).
        identity: of `load_identity`, which keeps the person and measures it; None for neither.
        in_place: clean ``images`` itself, and restore the faces in it where it is not enlarged:
            it saves the memory of a copy of large photographs.
        cleaner: a 1× network for ``settings.background``; None for the embedded one.
        occlusion: of `load_occlusion`; what it finds in front of faces is not painted over.
        wanted: B×1×H×W or 1×1×H×W, painted on the faces to restore (`select_faces`); None, or an
            unpainted one, for all.
        person: restore this person's faces alone, by ``identity``; None for everybody's.
        masks: whether to give the masks, which take a third of the memory of the photographs.

    Returns:
        The photographs on the device of ``images``. One without a face comes back as it is or
        only cleaned and enlarged, and ``faces`` holds an empty tuple in its place. A grey one
        stays grey.

    Raises:
        InputError: images that are no finite B×3×H×W batch, a setting out of its range, a number
            that no face has, a mask of another size, or a person without an identity network.
        OutOfMemoryError: if the enlarged photographs would not fit into memory.
    """
    settings = settings or RestoreSettings()
    check_factor(settings.enlarge)
    chosen_mask(settings, parser)  # refuses a wrong one before any work
    check_strength(settings.background)
    if cleaner is not None:
        check_cleaner(cleaner)

    def stage(start: int, stop: int) -> OnStep:
        """Progress within one stage: the steps from start to stop of each image."""
        return within(on_step, *(len(images) * steps for steps in (start, stop, _STEPS)))

    faces = detect_faces(
        images, detector, score=settings.score, min_size=settings.min_size, on_step=stage(0, 1)
    )
    faces, left = _choose(images, faces, detector, settings, wanted)
    resemblance = None
    if person is not None:
        faces, resemblance = choose_person(images, faces, person, identity)
    size = crop_size_of(settings, restorer)
    crops, alignment = align_faces(images, faces, size)
    factor = chosen_factor(settings.enlarge, alignment.faces, size, faces.image_size)
    check_room(images.shape, factor, images.device)  # before the work of restoring
    people = restore_crops(
        crops, alignment.faces, restorer, settings, identity, stage(1, 6), fit=True
    )
    cleaned = restore_background(images, settings.background, cleaner, stage(6, 7), in_place)
    large = enlarge(cleaned, factor, upscaler, stage(7, 9))
    in_front = None if occlusion is None else find_in_front(crops, occlusion)
    pasted, weights = paste_crops(
        large,
        people.crops,
        alignment,
        settings,
        parser,
        before=crops,
        grey=find_grey(images),
        seed=settings.seed,
        in_place=in_place or large is not images,
        in_front=in_front,
        masks=masks,
    )
    stage(9, 10)(1, 1, None)
    covered = (0.0,) * len(crops) if in_front is None else covered_shares(in_front)
    return RestoredPhoto(
        pasted, weights, faces, people.crops, alignment, factor, left, people, covered, resemblance
    )


def _choose(
    images: Tensor,
    faces: FaceSet,
    detector: Detector,
    settings: RestoreSettings,
    wanted: Tensor | None,
) -> tuple[FaceSet, FaceSet]:
    """The faces that are asked for, and those of them that are doubtful and left alone."""
    faces = number_faces(faces, settings.numbering)
    faces = select_faces(faces, sort=None, indices=settings.numbers, mask=wanted)
    take_all = settings.doubtful or settings.numbers is not None
    return (faces, no_faces(faces)) if take_all else set_aside(images, faces, detector)


def no_faces(faces: FaceSet) -> FaceSet:
    """No faces, in as many images."""
    return FaceSet(((),) * len(faces.faces), faces.image_size)
