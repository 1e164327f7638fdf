"""The person in a face: embeddings, and how far two faces are from being one person.

It compares a face with itself, before and after it was restored, or with photographs of the same
person that the user gives. It is not made to find out who somebody is.

An embedding says something only about a face that can be seen: not too small, not turned too
far, and a face at all. Where it says nothing, the distance is NaN, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn

from ..errors import (
    CorruptWeightsError,
    InputError,
    MissingPackageError,
    MissingWeightsError,
    WrongArchitectureError,
)
from ..files.checksums import file_sha256
from ..files.handles import NetworkHandle, load_into
from ..files.manifest import EMBEDDED_DIR, where_from
from ..image.geometry import face_template
from ..image.tensors import check_images
from .recognition import CHIP, empty_network

EMBEDDED_IDENTITY = EMBEDDED_DIR / "identity.safetensors"

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
_DLIB_LIMIT = 0.6
_ARCFACE_SIZE = 112
_ARCFACE_LIMIT = 1.2  # of unit vectors; a cosine of 0.28
_FACES_AT_ONCE = 32  # bounds the memory of one pass


@dataclass(frozen=True, eq=False)
class Identity(NetworkHandle):
    """A face recognition network, which maps B×3×size×size RGB in [0, 1] to B×D embeddings.

    Attributes:
        template: where it expects the five landmarks in them, (x, y) in pixels.
        limit: two faces that are closer than this count as one person.
        differentiable: whether gradients flow through it to the images.
    """

    template: tuple[tuple[float, float], ...] = _DLIB
    limit: float = _DLIB_LIMIT
    differentiable: bool = True

    def embed(self, crops: Tensor) -> Tensor:
        """The embeddings of aligned faces; carries gradients if ``differentiable``.

        Args:
            crops: B×3×S×S RGB in [0, 1], aligned by `align_faces` at any size.

        Returns:
            B×D on the network's device, whose Euclidean distances count.

        Raises:
            InputError: if the crops are no square images.
        """
        check_images(crops.detach(), "faces")
        if crops.shape[-1] != crops.shape[-2]:
            raise InputError(
                f"Faces must be aligned and square, got {crops.shape[-1]}×{crops.shape[-2]} "
                "pixels. Align the faces first."
            )
        matrices = _windows(crops.shape[-1], self.size or CHIP, self.template)
        rows, columns = (matrix.to(self.device, torch.float32) for matrix in matrices)
        parts = [
            self.network(rows @ part.to(self.device, torch.float32) @ columns.mT)
            for part in crops.split(_FACES_AT_ONCE)
        ]
        return torch.cat(parts)


def load_identity(path: str | Path | None = None) -> Identity:
    """Loads a face recognition network.

    Args:
        path: None for the embedded one (dlib's); an ``.onnx`` file for one of the ArcFace family,
            which sees 112×112 faces and runs through onnxruntime on the CPU.

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
    network = network.requires_grad_(False).eval()
    return Identity(network, path.stem, CHIP)


@torch.no_grad()
def identity_distance(
    faces: Tensor,
    reference: Tensor,
    identity: Identity,
    *,
    readable: Tensor | None = None,
) -> Tensor:
    """How far each face is from being the reference's person.

    Args:
        faces: B×3×S×S RGB in [0, 1], aligned faces.
        reference: B×3×T×T RGB in [0, 1], the same faces.
        identity: of `load_identity`.
        readable: B booleans, which of them can be compared (`readable`); None for all.

    Returns:
        B float64 distances from 0 on the CPU; below `Identity.limit` for one person, NaN where
        a face is not readable.

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

    A network that is trained against the recogniser itself soon draws faint grids, which bring
    embeddings nearer and faces no nearer. Behind a blur they cannot be seen, and features can.

    Args:
        faces: B×3×S×S RGB, nominally in [0, 1]; gradients flow to them.
        reference: B×3×T×T RGB in [0, 1]; no gradients.
        identity: of `load_identity`, on the faces' device.
        blur: deviation of the Gaussian that both are seen through, as a share of their sides; 0
            for none.

    Returns:
        A scalar.

    Raises:
        InputError: if gradients cannot flow through the network.
    """
    if not identity.differentiable:
        raise InputError(
            f"The identity term needs a network with gradients, got {identity.name} (ONNX). Use "
            "the embedded one."
        )
    with torch.autocast(faces.device.type, enabled=False):
        with torch.no_grad():
            wanted = identity.embed(_blurred(reference.float(), blur))
        return (identity.embed(_blurred(faces.float().clamp(0, 1), blur)) - wanted).abs().mean()


def _blurred(faces: Tensor, share: float) -> Tensor:
    deviation = share * faces.shape[-1]
    if not deviation:
        return faces
    side = 2 * math.ceil(3 * deviation) + 1
    return gaussian_blur2d(faces, (side, side), (deviation, deviation), "reflect")


def readable(landmarks: Tensor) -> Tensor:
    """Whether faces are large and frontal enough for an embedding to mean something.

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


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # ComfyUI's nodes run in it; the matrices also serve training
def _windows(size: int, chip: int, template: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """The chip×size matrices that cut a network's picture out of an aligned crop: rows, columns.

    The crop's and the network's templates differ in scale and place; the best least-squares fit
    without rotation is a separable resampling.
    """
    source = face_template(size)
    target = torch.tensor(template, dtype=torch.float64)
    centred = source - source.mean(0), target - target.mean(0)
    scale = float((centred[0] * centred[1]).sum() / centred[0].square().sum())
    shift = (target.mean(0) - scale * source.mean(0)).tolist()
    return _resampling(size, chip, scale, shift[1]), _resampling(size, chip, scale, shift[0])


def _resampling(size: int, chip: int, scale: float, shift: float) -> Tensor:
    """A chip×size matrix that maps the pixels x of an axis to scale·x + shift, antialiased."""
    places = (torch.arange(chip, dtype=torch.float64) - shift) / scale
    reach = max(1.0, 1.0 / scale)
    away = (places[:, None].clamp(0, size - 1) - torch.arange(size, dtype=torch.float64)).abs()
    weights = (1 - away / reach).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


class _OnnxNetwork(nn.Module):
    """An ArcFace-family network in onnxruntime: B×3×112×112 RGB in [0, 1] to unit vectors."""

    def __init__(self, path: Path):
        super().__init__()
        try:
            import onnxruntime  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingPackageError(
                f"{path.name} needs onnxruntime: pip install onnxruntime. Or leave it out for the "
                "embedded network, which needs nothing."
            ) from error
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no error class of its own
            raise CorruptWeightsError(
                f"{path} must be an ONNX network, got {type(error).__name__} from onnxruntime. "
                "Get the file again."
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = [] if not inputs else inputs[0].shape
        if len(inputs) != 1 or len(outputs) != 1 or list(shape[1:]) != [3, 112, 112]:
            raise WrongArchitectureError(
                f"{path.name} must take one N×3×112×112 picture of a face and give one embedding, "
                f"got {[item.shape for item in inputs]} to {[item.shape for item in outputs]}. "
                "Choose a recognition network of the ArcFace family."
            )
        self._name, self._singly = inputs[0].name, shape[0] == 1
        # The weights are onnxruntime's; the handle's checksum is that of its tensors.
        checksum = bytearray.fromhex(file_sha256(path))
        self.register_buffer("checksum", torch.frombuffer(checksum, dtype=torch.uint8))

    def forward(self, chips: Tensor) -> Tensor:
        values = (chips.detach().cpu().float() * 2 - 1).numpy()
        batches = [values[i : i + 1] for i in range(len(values))] if self._singly else [values]
        found = [
            torch.from_numpy(self._session.run(None, {self._name: batch})[0]) for batch in batches
        ]
        return F.normalize(torch.cat(found).flatten(1))


def _load_onnx(path: Path) -> Identity:
    if not path.is_file():
        raise MissingWeightsError(f"There is no weights file {path}. {where_from(path.name)}")
    network = _OnnxNetwork(path)
    return Identity(
        network, path.stem, _ARCFACE_SIZE, _ARCFACE, _ARCFACE_LIMIT, differentiable=False
    )
