"""The outline of a face from facexlib's parsing networks, ParseNet and BiSeNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn import functional as F

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


@dataclass(frozen=True, eq=False)
class Parser(NetworkHandle):
    """A face parser with its normalisation and its classes.

    The network takes normalised N×3×S×S RGB of its own size and returns the class scores first.

    Attributes:
        mean: three means, RGB, of images in [0, 1].
        std: three standard deviations.
        face: the classes that belong to the face.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    face: tuple[int, ...] = _PARSENET_FACE

    def __call__(self, crops: Tensor) -> Tensor:
        """The probability of each class, N×C×S×S, in N×3×S×S RGB crops in [0, 1]."""
        mean, std = (crops.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return self.network((crops - mean) / std)[0].softmax(1)


def load_parser(path: str | Path) -> Parser:
    """Loads a face parser; ParseNet or BiSeNet is read from the file's keys.

    Args:
        path: a ``.safetensors`` or ``.pth`` file in facexlib's layout.

    Returns:
        The parser on the CPU in evaluation mode.

    Raises:
        WrongArchitectureError: if the weights are of another network.
        WeightsError: if the file is missing, corrupt or holds code.
    """
    from facexlib.parsing import BiSeNet, ParseNet

    path = Path(path)
    state, _ = read_state_dict(path)
    if "out_mask_conv.conv2d.weight" in state:
        network = ParseNet(in_size=_SIZE, out_size=_SIZE, parsing_ch=_CLASSES)
        parser = Parser(network, path.stem, _SIZE)
    elif "cp.resnet.conv1.weight" in state:
        imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        network = BiSeNet(num_class=_CLASSES)
        parser = Parser(network, path.stem, _SIZE, *imagenet, _BISENET_FACE)
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
    return parser


@torch.no_grad()
def parse_faces(crops: Tensor, parser: Parser) -> Tensor:
    """Marks the face and its hair in aligned crops.

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
    kernel = 2 * int(3 * _SOFTNESS * size) + 1
    for start in range(0, len(crops), _BATCH):
        part = crops[start : start + _BATCH].to(parser.device, parser.dtype)
        if size != own:
            part = F.interpolate(part, (own, own), mode="bilinear", antialias=True)
        found = parser(part)[:, list(parser.face)].sum(1, keepdim=True).to(masks)
        if size != own:
            found = F.interpolate(found, (size, size), mode="bilinear", antialias=True)
        sigma = (_SOFTNESS * size, _SOFTNESS * size)
        masks[start : start + _BATCH] = gaussian_blur2d(found, kernel, sigma, "replicate")
    return masks.clamp_(0, 1)
