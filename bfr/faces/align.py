"""Upright, equally large face crops: the FFHQ alignment.

`bfr.image.crops` says how the pixels are resampled; this module says where the faces lie.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError
from ..image.crops import cut_crops
from ..image.geometry import face_template, fit_similarity
from ..image.tensors import check_images, size_in_words
from ..records import Alignment, FaceSet
from ..runtime.side_by_side import one_thread
from .landmarks import landmarks_of


def align_faces(images: Tensor, faces: FaceSet, size: int = 512) -> tuple[Tensor, Alignment]:
    """Cuts every face out, upright and at one size.

    Each face's five landmarks are laid on the FFHQ template by the least-squares similarity
    (:func:`bfr.image.geometry.fit_similarity`).

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        faces: the faces of these images.
        size: side of the crops in pixels.

    Returns:
        The N×3×size×size float32 crops in [0, 1] on the images' device, ordered by image and
        then as in ``faces`` (N may be 0), and the alignment that puts them back.

    Raises:
        InputError: images that are not valid, faces of other images, or a size below 16.
    """
    check_images(images)
    image_count, image_size = images.shape[0], (images.shape[2], images.shape[3])
    if size < 16:
        raise InputError(f"The crop size must be at least 16 pixels, got {size}. 512 suits most.")
    if len(faces.faces) != image_count or faces.image_size != image_size:
        raise InputError(
            f"faces must belong to these {image_count} images of {size_in_words(*image_size)}, got "
            f"those of {len(faces.faces)} images of {size_in_words(*faces.image_size)}. Detect the "
            "faces on these images."
        )
    pairs = [(i, face) for i, found in enumerate(faces.faces) for face in found]
    cut = tuple(face for _, face in pairs)
    alignment = Alignment(
        image_to_crop=fit_similarity(landmarks_of(cut), face_template(size)),
        image_index=tuple(i for i, _ in pairs),
        crop_size=(size, size),
        image_size=image_size,
        image_count=image_count,
        faces=cut,
    )
    with one_thread(images.device):
        crops = cut_crops(images, alignment.image_to_crop, alignment.image_index, size)
    return crops, alignment
