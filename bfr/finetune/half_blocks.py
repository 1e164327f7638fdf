"""NAFNet's blocks under bfloat16's autocast, in four fifths of the time on a processor.

The published block scales its branches by float32 parameters, which lifts all that follows to
float32, and its gates and norms pass over the memory more often than they must. Here the faces
stay in bfloat16, and what only scales or shifts is folded into the 1×1 convolution beside it, in
float32 and by a few numbers per channel. In every other precision the published code computes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..restore.norms import fuse_norms, put_before

_PUBLISHED = "NAFBlock"  # spandrel's class, which is the published code
_FEW = 16  # channels, up to which `_Normal` is quicker on a processor than PyTorch's norm
_ENLARGEMENT = [nn.Conv2d, nn.PixelShuffle]


class _Gate(torch.autograd.Function):
    """The product of both halves of the channels; gradients are written to their place at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        first, second = x.chunk(2, 1)
        return first * second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        found, half = torch.empty_like(x), x.shape[1] // 2
        torch.mul(gradient, x[:, half:], out=found[:, :half])
        torch.mul(gradient, x[:, :half], out=found[:, half:])
        return found


class _Mean(torch.autograd.Function):
    """The mean of each channel, B×C×1×1; its gradient is a view and takes no memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return (gradients[0] / ctx.shape[2:].numel()).expand(ctx.shape)


class _Normal(torch.autograd.Function):
    """The layer norm of few channels, N×C: two small products instead of a loop for every row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        mean = x.new_full((x.shape[1],) * 2, 1 / x.shape[1])
        centred = x @ (torch.eye(x.shape[1], dtype=x.dtype, device=x.device) - mean)
        inverse = ((centred * centred) @ mean).add_(eps).rsqrt_()
        ctx.save_for_backward(centred, inverse[:, :1].contiguous())
        return centred * inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        centred, inverse = ctx.saved_tensors
        normal, none = [centred.shape[1]], torch.zeros_like(inverse)
        found, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradients[0], centred, normal, none, inverse, None, None, [True, False, False]
        )
        return found, None


class _HalfBlock(nn.Module):
    """Before the published class: a block of B×C×H×W."""

    norm1: nn.Module
    norm2: nn.Module
    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    conv4: nn.Conv2d
    conv5: nn.Conv2d
    sca: nn.Sequential
    beta: nn.Parameter
    gamma: nn.Parameter
    dropout1: nn.Module
    dropout2: nn.Module

    def forward(self, inp: Tensor) -> Tensor:
        drops = not all(isinstance(x, nn.Identity) for x in (self.dropout1, self.dropout2))
        if drops or not _half(inp):
            return super().forward(inp)
        inp = inp.bfloat16()
        x = _called(_Gate, self.conv2(_after_norm(self.conv1, self.norm1, inp)))
        y = inp + _scaled(self.conv3, self.beta, x * self.sca[1](_called(_Mean, x)))
        x = _called(_Gate, _after_norm(self.conv4, self.norm2, y))
        return y + _scaled(self.conv5, self.gamma, x)


class _HalfEnlargement(nn.Sequential):
    """Before the published sequence of a 1×1 convolution without bias and a pixel shuffle.

    The convolution's results come in the order in which the shuffle moves whole runs of memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        convolution, shuffle = self
        if not _half(x) or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        assert isinstance(convolution, nn.Conv2d) and isinstance(shuffle, nn.PixelShuffle)
        side = shuffle.upscale_factor
        weight = convolution.weight.unflatten(0, (-1, side**2)).transpose(0, 1).flatten(0, 1)
        tall = F.conv2d(x, weight).permute(0, 2, 3, 1).unflatten(3, (side, side, -1))
        return tall.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def quicken(network: nn.Module) -> int:
    """Lets a NAFNet train with fewer operators (`fuse_norms`, `keep_half`).

    The network that a run compares with its base is treated the same way; otherwise a resumed run
    would differ by rounding.

    Args:
        network: changed in place.

    Returns:
        The number of norms: above 0, channels-last order is quickest.
    """
    keep_half(network)
    return fuse_norms(network)


def keep_half(network: nn.Module) -> int:
    """Lets the blocks of a NAFNet compute in bfloat16 throughout, under autocast to it.

    Names of tensors stay the same, and results but for rounding.

    Args:
        network: changed in place; what has no such blocks stays as it is.

    Returns:
        The number of blocks that do.
    """
    for module in network.modules():
        parts = list(module.children()) if type(module) is nn.Sequential else []
        if [type(part) for part in parts] == _ENLARGEMENT and parts[0].bias is None:
            module.__class__ = _HalfEnlargement
    return put_before(network, _PUBLISHED, _HalfBlock)


def _half(x: Tensor) -> bool:
    """True under autocast to bfloat16."""
    kind = x.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16


def _called(function: type[torch.autograd.Function], *inputs: Tensor | float) -> Tensor:
    found = function.apply(*inputs)
    assert isinstance(found, Tensor)
    return found


def _after_norm(layer: nn.Conv2d, norm: Any, x: Tensor) -> Tensor:
    """A 1×1 convolution with the weight and bias of the norm before it folded in."""
    last = x.permute(0, 2, 3, 1)
    if last.shape[-1] <= _FEW and last.is_contiguous() and x.device.type == "cpu":
        last = _called(_Normal, last.flatten(0, 2), norm.eps).view(last.shape)
    else:
        last = F.layer_norm(last, last.shape[-1:], None, None, norm.eps)
    normal = last.permute(0, 3, 1, 2)
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    moved = bias + (weight * norm.bias[:, None, None]).sum((1, 2, 3))
    return F.conv2d(normal, weight * norm.weight[:, None, None], moved)


def _scaled(layer: nn.Conv2d, scale: Tensor, x: Tensor) -> Tensor:
    """A 1×1 convolution with its results scaled by 1×C×1×1."""
    assert layer.bias is not None
    return F.conv2d(x, layer.weight * scale.view(-1, 1, 1, 1), layer.bias * scale.flatten())
