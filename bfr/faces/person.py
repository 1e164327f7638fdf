"""Finds the detected faces of a person of whom there are photographs.

Only with photographs that the user gives: nothing is looked up, and nobody is named.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..records import FaceSet
from .align import align_faces
from .identity import LIMIT, Identity, readable
from .landmarks import landmarks_of
from .select import select_faces

_CROP = 256  # pixels of the faces that are compared


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A person whose faces are looked for.

    Attributes:
        photographs: K×D embeddings (`embed_person`).
        limit: how far a face may be from the nearest of them.
    """

    photographs: Tensor
    limit: float = LIMIT


@dataclass(frozen=True, slots=True)
class Resemblance:
    """The distances of faces from a person; NaN for one that cannot be compared.

    Attributes:
        chosen: for each image the distances of the faces that count as the person's.
        others: those of the other faces.
    """

    chosen: tuple[tuple[float, ...], ...]
    others: tuple[tuple[float, ...], ...]


@torch.no_grad()
def embed_person(references: Tensor, faces: FaceSet, identity: Identity) -> Tensor:
    """The embeddings of a person, one for each photograph.

    Args:
        references: K×3×H×W RGB in [0, 1], photographs of the person alone, or with the face as
            the largest.
        faces: those that were detected in them.
        identity: of `load_identity`.

    Returns:
        K×D.

    Raises:
        InputError: if a photograph shows no face, or one too small or turned too far.
    """
    largest = select_faces(faces, sort="size", limit=1)
    for number, found in enumerate(largest.faces, 1):
        if not found or not bool(readable(landmarks_of(found[:1]))):
            what = "one that is too small or turned too far" if found else "none"
            raise InputError(
                f"Each photograph of the person must show a face, got {what} in number {number} of "
                f"{len(largest.faces)}. Choose one in which the face is large and looks ahead."
            )
    return identity.embed(align_faces(references, largest, _CROP)[0])


def given(identity: Identity | None) -> Identity:
    """The network that people are compared by.

    Raises:
        InputError: if there is none.
    """
    if identity is None:
        raise InputError(
            "A person needs a face recognition network, got none. Load one, or look for nobody."
        )
    return identity


@torch.no_grad()
def distances_to(
    images: Tensor, faces: FaceSet, person: Tensor, identity: Identity
) -> list[list[float]]:
    """The distance of each face from the nearest photograph of a person.

    Args:
        images: B×3×H×W RGB in [0, 1].
        faces: those that were detected in them.
        person: K×D of `embed_person`.
        identity: the same network.

    Returns:
        For each image a distance for each of its faces; NaN for one too small or turned too far.

    Raises:
        InputError: if the faces are not of these images.
    """
    crops, alignment = align_faces(images, faces, _CROP)
    apart: list[list[float]] = [[] for _ in faces.faces]
    if not len(alignment):
        return apart
    found = torch.cdist(identity.embed(crops), person).amin(1).cpu()
    found = found.where(readable(landmarks_of(alignment.faces)), torch.nan)
    for image, distance in zip(alignment.image_index, found.tolist(), strict=True):
        apart[image].append(distance)
    return apart


def choose_person(
    images: Tensor, faces: FaceSet, person: Person, identity: Identity | None
) -> tuple[FaceSet, Resemblance]:
    """Keeps the faces of a person, in their original order.

    Args:
        images: B×3×H×W RGB in [0, 1].
        faces: those that were detected in them.
        person: who is looked for.
        identity: the network that embedded the photographs.

    Raises:
        InputError: without such a network.
    """
    apart = distances_to(images, faces, person.photographs, given(identity))
    chosen = select_faces(faces, sort=None, distances=apart, max_distance=person.limit)
    return chosen, Resemblance(
        tuple(tuple(d for d in each if d <= person.limit) for each in apart),
        tuple(tuple(d for d in each if not d <= person.limit) for each in apart),
    )
