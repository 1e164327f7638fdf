"""Faces cut from photographs, to score a restorer on while it is tuned."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import FaceRestorationError, InputError
from .arguments import find_weights
from .report import say, say_unread

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..pairs.folder import PairSet
    from ..restore.restorer import Restorer


def faces_to_evaluate(
    options: argparse.Namespace,
    restorer: Restorer,
    pairs: PairSet,
    device: torch.device,
) -> Tensor:
    """The faces in the photographs of ``--evaluation``, N×3×S×S, at the size of the pairs.

    A photograph that cannot be read is reported and left out.

    Raises:
        InputError: if there are no faces in them, or no finished pairs.
    """
    import torch

    from ..faces.align import align_faces
    from ..faces.detect import detect_faces
    from ..faces.retinaface import load_detector
    from ..files.photos import read_photo
    from ..files.sources import find_sources
    from ..pairs.folder import read_image

    size = restorer.size
    if size is None:
        if not pairs.kept:
            raise InputError(
                f"{pairs.folder} must have finished pairs, got none. Finish it: bfr targets"
            )
        size = read_image(pairs.folder, "lq", pairs.kept[0]).shape[-1]
    detector = load_detector(find_weights("detector", options.detector)).to(device)
    crops: list[Tensor] = []
    sources = find_sources(options.evaluation, options.out)
    say_unread(options.evaluation, options.out)
    for source in sources:
        try:
            pixels = read_photo(source.path).pixels
            found = detect_faces(pixels, detector, score=options.score)
        except FaceRestorationError as error:
            say(f"{source.path}: failed: {error}")
            continue
        if not found.count:
            say(f"{source.path}: no faces")
        crops.append(align_faces(pixels, found, size)[0])
    faces = torch.cat(crops) if crops else torch.empty(0, 3, size, size)
    if not len(faces):
        raise InputError(
            f"Photographs to evaluate must show faces, got none in {len(sources)}. Choose others."
        )
    say(f"{len(faces)} faces to evaluate in {len(sources)} photographs")
    return faces
