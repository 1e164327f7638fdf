"""The outline of a face from facexlib's parsing networks, ParseNet and BiSeNet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

from ..choices import REGIONS
from ..errors import InputError, WrongArchitectureError
from ..files.handles import NetworkHandle
from ..files.weights import read_state_dict

_SIZE = 512  # both networks were trained on aligned faces of this size
_CLASSES = 19
_SOFTNESS = 0.03  # sigma of the mask's edge, as a share of the crop's side
_BATCH = 4

# What is pasted, as in GFPGAN and CodeFormer: skin, brows, eyes, glasses, ears, earrings, nose,
# mouth, lips and hair; not hat, neck, necklace, clothes or background. Hair belongs to it
# because restorers sharpen it with the face, and a line along the forehead would show.
_PARSENET_FACE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15)
_BISENET_FACE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17)

# The classes of each of `REGIONS` but the whole face, in the order of ParseNet and of BiSeNet. Skin
# is skin, nose and ears; eyes are eyes, brows and glasses; the mouth has its lips.
_PARSENET = {
    "without hair": tuple(each for each in _PARSENET_FACE if each != 13),
    "skin": (1, 2, 8, 9),
    "eyes": (3, 4, 5, 6, 7),
    "mouth": (10, 11, 12),
}
_BISENET = {
    "without hair": tuple(each for each in _BISENET_FACE if each != 17),
    "skin": (1, 7, 8, 10),
    "eyes": (2, 3, 4, 5, 6),
    "mouth": (11, 12, 13),
}
_SMALL = ("eyes", "mouth")  # regions that the soft edge would thin out: they are grown by it


@dataclass(frozen=True, eq=False)
class Parser(NetworkHandle):
    """A face parser with its normalisation and its classes.

    The network takes normalised N×3×S×S RGB of its own size and returns the class scores first.

    Attributes:
        mean: three means, RGB, of images in [0, 1].
        std: three standard deviations.
        face: the classes that are marked.
        grow: by how much what is marked grows, as a share of the crop's side.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    face: tuple[int, ...] = _PARSENET_FACE
    grow: float = 0.0

    def __call__(self, crops: Tensor) -> Tensor:
        """The probability of each class, N×C×S×S, in N×3×S×S RGB crops in [0, 1]."""
        mean, std = (crops.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return self.network((crops - mean) / std)[0].softmax(1)


def load_parser(path: str | Path, region: str = "face") -> Parser:
    """Loads a face parser; ParseNet or BiSeNet is read from the file's keys.

    Args:
        path: a ``.safetensors`` or ``.pth`` file in facexlib's layout.
        region: what it is to mark, one of `REGIONS`; the face has its hair.

    Returns:
        The parser on the CPU in evaluation mode.

    Raises:
        InputError: for another region.
        WrongArchitectureError: if the weights are of another network.
        WeightsError: if the file is missing, corrupt or holds code.
    """
    if region not in REGIONS:
        raise InputError(f"region must be one of {', '.join(REGIONS)}, got {region!r}.")
    from facexlib.parsing import BiSeNet, ParseNet

    path = Path(path)
    state, _ = read_state_dict(path)
    if "out_mask_conv.conv2d.weight" in state:
        network = ParseNet(in_size=_SIZE, out_size=_SIZE, parsing_ch=_CLASSES)
        parser = Parser(network, path.stem, _SIZE)
        regions = _PARSENET
    elif "cp.resnet.conv1.weight" in state:
        imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        network = BiSeNet(num_class=_CLASSES)
        parser = Parser(network, path.stem, _SIZE, *imagenet, _BISENET_FACE)
        regions = _BISENET
    else:
        raise WrongArchitectureError(
            f"{path} must hold a face parser, got the first key {next(iter(state), None)!r}. "
            "Choose facexlib's parsing_parsenet.pth or parsing_bisenet.pth."
        )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WrongArchitectureError(
            f"{path} must be facexlib's {type(network).__name__} of {_CLASSES} classes at 512 px, "
            f"got another one ({str(error)[:300]}). Choose facexlib's own file."
        ) from error
    network.eval().requires_grad_(False)
    if region == "face":
        return parser
    return replace(parser, face=regions[region], grow=_SOFTNESS if region in _SMALL else 0.0)


@torch.no_grad()
def parse_faces(crops: Tensor, parser: Parser) -> Tensor:
    """Marks what the parser is for, such as the face and its hair, in aligned crops.

    Args:
        crops: N×3×S×S RGB in [0, 1].
        parser: runs on its own device and dtype.

    Returns:
        N×1×S×S float32 mask in [0, 1] with soft edges, on the crops' device.

    Raises:
        InputError: if ``parser`` is no face parser.
    """
    if not isinstance(parser, Parser):
        raise InputError(
            f"parser must be a Parser, got a {type(parser).__name__}. Use that of load_parser."
        )
    size, own = crops.shape[-1], parser.size or crops.shape[-1]
    masks = crops.new_empty(len(crops), 1, size, size, dtype=torch.float32)
    kernel, reach = 2 * int(3 * _SOFTNESS * size) + 1, round(parser.grow * size)
    for start in range(0, len(crops), _BATCH):
        part = crops[start : start + _BATCH].to(parser.device, parser.dtype)
        if size != own:
            part = F.interpolate(part, (own, own), mode="bilinear", antialias=True)
        found = parser(part)[:, list(parser.face)].sum(1, keepdim=True).to(masks)
        if size != own:
            found = F.interpolate(found, (size, size), mode="bilinear", antialias=True)
        if reach:
            found = F.max_pool2d(found, 2 * reach + 1, 1, reach)
        sigma = (_SOFTNESS * size, _SOFTNESS * size)
        masks[start : start + _BATCH] = gaussian_blur2d(found, kernel, sigma, "replicate")
    return masks.clamp_(0, 1)
