"""Scratches found: folds, tears, dust and fibres of a print and its scan, as a mask to repair.

The embedded network (`bfr.restore.scratch_network`) was trained on drawn ones, and chosen to miss
some rather than to mark what belongs to the scene. A large photograph is shrunk for it, so that a
scratch is as wide as those that it knows, and seen in tiles that give exactly what the whole would
give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, WrongArchitectureError
from ..files.handles import NetworkHandle
from ..files.manifest import EMBEDDED_DIR
from ..files.weights import read_state_dict
from ..image.tensors import check_images
from ..records import OnStep
from .scratch_network import REACH, STEP, ScratchNetwork, empty_network
from .scratch_parts import scratches_among

EMBEDDED_SCRATCHES = EMBEDDED_DIR / "scratches.safetensors"

MOST_SIDE = 2048
"""The longer side in pixels at which a photograph is looked at, at most."""

MIN_SIZE = 3.0
"""The least longer side in pixels of a scratch, unless one says otherwise: dust on a face counts.
Of 38 pictures without scratches, none had a mark at 8 pixels, and one has 0.02 % at 3."""

_TILE = 512  # pixels of a side that a tile decides; it sees `REACH` more around them
_RED, _OPAQUE = (1.0, 0.1, 0.1), 0.8
_LIKELY, _SURE = 1.39, 4.6  # log-odds of 0.8 and 0.99: chosen on photographs without scratches
_SLOPE = 6.0  # log-odds between a sensitivity of 0 and of 1


@dataclass(frozen=True, eq=False)
class ScratchFinder(NetworkHandle):
    """A network that marks scratches: B×3×H×W RGB in [0, 1] to logits B×1×H×W.

    H and W are multiples of `STEP`.
    """


def load_scratch_finder(path: str | Path | None = None) -> ScratchFinder:
    """Loads a network that finds scratches.

    Args:
        path: None for the embedded one.

    Returns:
        The network on the CPU in evaluation mode.

    Raises:
        WeightsError: if the file is missing, corrupt, or another network.
    """
    path = Path(path) if path is not None else EMBEDDED_SCRATCHES
    state, metadata = read_state_dict(path)
    network = empty_network()
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != wanted:
        raise WrongArchitectureError(
            f"{path.name} must hold a ScratchNetwork of recipes/scratches.py, got "
            f"{metadata.get('architecture', 'another network')}. Choose another file, or leave it "
            "out for the embedded network."
        )
    floats = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    network.load_state_dict(floats, assign=True)
    return as_finder(network, path.stem)


def as_finder(network: ScratchNetwork, name: str = "") -> ScratchFinder:
    """The handle of a network of ours."""
    return ScratchFinder(network.requires_grad_(False).eval(), name)


def find_scratches(
    images: Tensor,
    finder: ScratchFinder,
    *,
    sensitivity: float = 0.5,
    min_size: float = MIN_SIZE,
    grow: int = 2,
    on_step: OnStep | None = None,
) -> Tensor:
    """Marks the scratches of photographs.

    Args:
        images: B×3×H×W RGB in [0, 1].
        finder: runs on its own device.
        sensitivity: 0 (only what is sure) to 1 (whatever may be one).
        min_size: the least longer side in pixels of a scratch; smaller ones are left.
        grow: pixels by which each scratch is marked wider, so that its soft edge is repaired, too;
            of the photograph as it is looked at, so it is more of a very large one.
        on_step: called with (tiles done, tiles in all, None).

    Returns:
        B×1×H×W float32 of 0 and 1, on the device of ``images``.

    Raises:
        InputError: images that are no finite B×3×H×W batch, another network, or a setting out of
            its range.
        MissingPackageError: without OpenCV.
    """
    if not isinstance(finder, ScratchFinder):
        raise InputError(
            f"finder must be of load_scratch_finder, got a {type(finder).__name__}. Load one."
        )
    check_images(images)
    if not 0 <= sensitivity <= 1:
        raise InputError(f"sensitivity must be from 0 to 1, got {sensitivity}. Begin with 0.5.")
    if not (min_size >= 0 and math.isfinite(min_size)):
        raise InputError(
            f"min_size must be 0 or more pixels, got {min_size}. Begin with {MIN_SIZE:g}."
        )
    if not 0 <= grow <= 64:
        raise InputError(f"grow must be from 0 to 64 pixels, got {grow}. Begin with 2.")
    masks = images.new_zeros(len(images), 1, *images.shape[-2:], dtype=torch.float32)
    for index in range(len(images)):
        done = _share(on_step, index, len(images))
        image = images[index : index + 1]
        found = scratch_probabilities(image, finder, on_step=done)
        masks[index] = mark(found, image, sensitivity, min_size)[0]
    reach = math.ceil(grow * max(1.0, max(images.shape[-2:]) / MOST_SIDE))
    return F.max_pool2d(masks, 2 * reach + 1, 1, reach) if reach else masks


def mark_scratches(images: Tensor, masks: Tensor) -> Tensor:
    """Photographs with their scratches in red, to look at.

    Args:
        images: B×3×H×W RGB in [0, 1].
        masks: B×1×H×W in [0, 1], of `find_scratches`.

    Returns:
        B×3×H×W in [0, 1].
    """
    red = images.new_tensor(_RED)[:, None, None]
    return images.lerp(red.expand_as(images), masks.to(images) * _OPAQUE)


def mark(
    probabilities: Tensor, image: Tensor, sensitivity: float = 0.5, min_size: float = MIN_SIZE
) -> Tensor:
    """The mask of the pixels that belong to a scratch (`scratches_among`).

    Args:
        probabilities: 1×1×H×W in [0, 1], of `scratch_probabilities`.
        image: 1×3×H×W RGB in [0, 1].
        sensitivity, min_size: of `find_scratches`.

    Returns:
        1×1×H×W bool, on the device of ``image``.

    Raises:
        MissingPackageError: without OpenCV.
    """
    shift = _SLOPE * (0.5 - sensitivity)
    likely, sure = (1 / (1 + math.exp(-each - shift)) for each in (_LIKELY, _SURE))
    seen = probabilities[0, 0].cpu().numpy()
    pixels = image[0].permute(1, 2, 0).float().cpu().numpy()
    found = scratches_among(seen > likely, seen > sure, pixels, min_size)
    return torch.from_numpy(found)[None, None].to(image.device)


@torch.no_grad()
def scratch_probabilities(
    image: Tensor, finder: ScratchFinder, *, tile: int = _TILE, on_step: OnStep | None = None
) -> Tensor:
    """The probability that each pixel belongs to a scratch.

    Args:
        image: 1×3×H×W RGB in [0, 1].
        finder: of `load_scratch_finder`.
        tile: pixels of a side that are decided at once; it makes no difference to the result.
        on_step: called with (tiles done, tiles in all, None).

    Returns:
        1×1×H×W float32 in [0, 1], on the device of ``image``.
    """
    size = image.shape[-2:]
    small = image.float()
    if max(size) > MOST_SIDE:
        shrunk = [max(1, round(side * MOST_SIDE / max(size))) for side in size]
        small = F.interpolate(small, shrunk, mode="bilinear", antialias=True)
    height, width = small.shape[-2:]
    padded = F.pad(small, (0, -width % STEP, 0, -height % STEP), "replicate")
    found = padded.new_empty(1, 1, *padded.shape[-2:])
    rows, columns = (list(_spans(side, tile)) for side in padded.shape[-2:])
    total = len(rows) * len(columns)
    for number, (row, column) in enumerate((r, c) for r in rows for c in columns):
        part = padded[..., row.seen, column.seen].to(finder.device, finder.dtype)
        logits = finder.network(part)[..., row.own, column.own]
        found[..., row.decided, column.decided] = logits.to(found).sigmoid()
        if on_step is not None:
            on_step(number + 1, total, None)
    found = found[..., :height, :width]
    return found if found.shape[-2:] == size else F.interpolate(found, size, mode="bilinear")


@dataclass(frozen=True, slots=True)
class _Span:
    """A tile along an axis: what it sees, what it decides, and where that is in what it sees."""

    seen: slice
    decided: slice
    own: slice


def _spans(length: int, tile: int) -> Iterator[_Span]:
    tile = max(STEP, tile // STEP * STEP)
    for start in range(0, length, tile):
        stop = min(length, start + tile)
        first, last = max(0, start - REACH), min(length, stop + REACH)
        yield _Span(slice(first, last), slice(start, stop), slice(start - first, stop - first))


def _share(on_step: OnStep | None, index: int, count: int) -> OnStep | None:
    """Progress of one image of a batch, all of which have as many tiles."""
    if on_step is None:
        return None
    return lambda done, total, preview: on_step(index * total + done, count * total, preview)
