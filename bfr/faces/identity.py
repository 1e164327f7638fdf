"""The person in a face: embeddings, and how far two faces are from being one person.

It compares a face with itself, before and after it was restored, or with photographs of the same
person that the user gives. It is not made to find out who somebody is. An embedding says something
only about a face that can be seen: not too small, not turned too far, and a face at all. Where it
says nothing, the distance is NaN, never 0.

Every network's distances come out on dlib's scale, so that one limit holds for all (`LIMIT`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, WrongArchitectureError
from ..files.handles import NetworkHandle, load_into
from ..files.manifest import EMBEDDED_DIR
from ..files.onnx import OnnxModule
from ..image.tensors import check_images
from .chips import chip_windows
from .recognition import CHIP, empty_network

EMBEDDED_IDENTITY = EMBEDDED_DIR / "identity.safetensors"

LIMIT = 0.6
"""Two faces that are closer than this count as one person."""

LEAST_EYES = 8.0
"""Distance of the eyes in pixels below which a face is too small to say who it is."""

MOST_TURN = 0.45
"""How far the nose may be from between the eyes, in distances of the eyes, before a face is
turned too far to say who it is."""

# Where each network expects the five landmarks in its picture, in pixels. dlib's chips have no
# template of these five points: the median of where our detector sees them in dlib's own chips.
_DLIB = ((46.24, 44.33), (101.27, 44.33), (73.75, 79.15), (48.7, 97.8), (98.8, 97.8))
_ARCFACE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_ARCFACE_SIZE = 112
# The distances of unit vectors on dlib's scale: one person ends at a cosine of 0.28, as is usual
# for this family, where `LIMIT` is; two people are at right angles, which is at 0.71.
_ARCFACE_SCALE = LIMIT / math.sqrt(2 - 2 * 0.28)
_FACES_AT_ONCE = 32  # bounds the memory of one pass


@dataclass(frozen=True, eq=False)
class Identity(NetworkHandle):
    """A face recognition network, which maps B×3×size×size RGB in [0, 1] to B×D embeddings.

    Attributes:
        template: where it expects the five landmarks in them, (x, y) in pixels.
        scale: what its embeddings are multiplied by, so that `LIMIT` is the limit of its distances.
        differentiable: whether gradients flow through it to the images.
    """

    template: tuple[tuple[float, float], ...] = _DLIB
    scale: float = 1.0
    differentiable: bool = True

    def embed(self, crops: Tensor, blur: float = 0.0) -> Tensor:
        """The embeddings of aligned faces; carries gradients if ``differentiable``.

        Args:
            crops: B×3×S×S RGB in [0, 1], aligned by `align_faces` at any size.
            blur: standard deviation of a Gaussian that they are seen through, as a share of
                their sides; 0 for none.

        Returns:
            B×D on the network's device, whose Euclidean distances count, on dlib's scale.

        Raises:
            InputError: if the crops are no square images.
        """
        check_images(crops.detach(), "faces")
        if crops.shape[-1] != crops.shape[-2]:
            raise InputError(
                f"Faces must be aligned and square, got {crops.shape[-1]}×{crops.shape[-2]} "
                "pixels. Align the faces first."
            )
        matrices = chip_windows(crops.shape[-1], self.size or CHIP, self.template, blur)
        rows, columns = (matrix.to(self.device, torch.float32) for matrix in matrices)
        parts = [
            self.network(rows @ part.to(self.device, torch.float32) @ columns.mT)
            for part in crops.split(_FACES_AT_ONCE)
        ]
        return self.scale * torch.cat(parts)


def load_identity(path: str | Path | None = None) -> Identity:
    """Loads a face recognition network.

    Args:
        path: None for the embedded one (dlib's); an ``.onnx`` file for one of the ArcFace family,
            which sees 112×112 faces and runs through onnxruntime.

    Raises:
        WeightsError: if the file is missing, corrupt, or another network.
        MissingPackageError: for an ``.onnx`` file without onnxruntime.
    """
    path = Path(path) if path is not None else EMBEDDED_IDENTITY
    if path.suffix.lower() == ".onnx":
        return _load_onnx(path)
    network = empty_network()
    recipe = "hold a FaceResNet of recipes/identity.py or be an .onnx file of the ArcFace family"
    load_into(network, path, recipe)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Identity(network.requires_grad_(False).eval(), path.stem, CHIP)


@torch.no_grad()
def identity_distance(
    faces: Tensor,
    reference: Tensor,
    identity: Identity,
    *,
    readable: Tensor | None = None,
) -> Tensor:
    """The distance of each face from the reference's person.

    Args:
        faces: B×3×S×S RGB in [0, 1], aligned faces.
        reference: B×3×T×T RGB in [0, 1], the same faces.
        identity: of `load_identity`.
        readable: B booleans, which of them can be compared (`readable`); None for all.

    Returns:
        B float64 distances from 0 on the CPU; below `LIMIT` for one person, NaN where a face is not
        readable.

    Raises:
        InputError: if there are not as many faces as references, or they are no square images.
    """
    if len(faces) != len(reference):
        raise InputError(
            f"Each face must have its reference, got {len(faces)} faces and {len(reference)} "
            "references. Give the same faces in the same order."
        )
    apart = distance_of(identity.embed(faces), identity.embed(reference)).double().cpu()
    return apart if readable is None else apart.where(readable.cpu(), torch.nan)


def distance_of(embeddings: Tensor, reference: Tensor) -> Tensor:
    """The Euclidean distances of …×D embeddings; with a gradient of 0 where they are equal."""
    return ((embeddings - reference).square().sum(-1) + 1e-12).sqrt() - 1e-6


def identity_loss(
    faces: Tensor, reference: Tensor, identity: Identity, blur: float = 0.0
) -> Tensor:
    """The mean absolute difference of the embeddings, GFPGAN's identity term (weight 10 there).

    Wang, Li, Zhang and Shan ("Towards Real-World Blind Face Restoration with Generative Facial
    Prior", CVPR 2021, eq. 6) take ArcFace and the ground truth; give the restorer's first guess
    or its input as the reference here, not the pseudo target, which may be somebody else.

    A network trained against the recogniser itself soon draws faint grids, which bring only the
    embeddings nearer. Behind a blur they cannot be seen, and features can.

    Args:
        faces: B×3×S×S RGB, nominally in [0, 1]; gradients flow to them alone.
        reference: B×3×T×T RGB in [0, 1].
        identity: of `load_identity`, on the faces' device.
        blur: deviation of the Gaussian that both are seen through, as a share of their sides.

    Returns:
        A scalar.

    Raises:
        InputError: if gradients cannot flow through the network.
    """
    return embedding_loss(faces, embedded(reference, identity, blur), identity, blur)


@torch.no_grad()
def embedded(faces: Tensor, identity: Identity, blur: float = 0.0) -> Tensor:
    """B×D embeddings in float32 without gradients, for `embedding_loss`."""
    with torch.autocast(faces.device.type, enabled=False):
        return identity.embed(faces, blur)


def embedding_loss(faces: Tensor, wanted: Tensor, identity: Identity, blur: float = 0.0) -> Tensor:
    """`identity_loss` with the reference's B×D embeddings, which can be kept (`embedded`)."""
    if not identity.differentiable:
        raise InputError(
            f"The identity term needs a network with gradients, got {identity.name} (ONNX). "
            "Use the embedded one."
        )
    with torch.autocast(faces.device.type, enabled=False):
        return (identity.embed(faces.float().clamp(0, 1), blur) - wanted).abs().mean()


def readable(landmarks: Tensor) -> Tensor:
    """Selects the faces that are large and frontal enough for an embedding to mean something.

    Args:
        landmarks: B×5×2 points in pixels of the picture that the faces were first seen in; NaN
            where none was found.

    Returns:
        B booleans.
    """
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    across = right - left
    eyes = across.norm(dim=-1)
    turn = ((nose - (left + right) / 2) * across).sum(-1).abs() / eyes.square()
    return (eyes >= LEAST_EYES) & (turn <= MOST_TURN)  # NaN is neither


class _ArcFace(nn.Module):
    """A network of the ArcFace family: B×3×112×112 RGB in [0, 1] to unit vectors."""

    def __init__(self, file: OnnxModule):
        super().__init__()
        self.file = file

    def forward(self, chips: Tensor) -> Tensor:
        (slot,), (given,) = self.file.inputs, self.file.outputs
        if not len(chips):
            return chips.new_empty(0, given.shape[-1])
        batches = chips.split(slot.shape[0] or len(chips))
        return F.normalize(
            torch.cat([self.file({slot.name: 2 * batch - 1})[0].flatten(1) for batch in batches])
        )


def _load_onnx(path: Path) -> Identity:
    file = OnnxModule(path)
    taken = [slot.shape[1:] for slot in file.inputs]
    if taken != [(3, _ARCFACE_SIZE, _ARCFACE_SIZE)] or len(file.outputs) != 1:
        raise WrongArchitectureError(
            f"{path.name} must take one N×3×112×112 picture of a face and give one embedding, "
            f"got {', '.join(map(str, file.inputs))} to {', '.join(map(str, file.outputs))}. "
            "Choose a recognition network of the ArcFace family."
        )
    network = _ArcFace(file).eval()
    return Identity(
        network, path.stem, _ARCFACE_SIZE, _ARCFACE, _ARCFACE_SCALE, differentiable=False
    )
