"""The U-Net that tells restored faces from real ones, pixel by pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm, spectral_norm

from .errors import InputError

_SETTLING = 20  # power iterations of a new discriminator


class UNetDiscriminator(nn.Module):
    """The discriminator of Wang et al., "Real-ESRGAN" (ICCV Workshops 2021), section 3.3.

    A U-Net with spectral normalisation (Miyato et al., ICLR 2018), whose tensors have the names
    of the published files. It never is in training mode: there each forward pass would change it
    by a power iteration, and the figures would depend on how a batch is split into micro-batches
    and over processes. Call `refresh` once a step instead.
    """

    def __init__(self, channels: int = 64, skip: bool = True) -> None:
        """Makes one with random weights, of PyTorch's own generator.

        Args:
            channels: features at full size; eight times as many at an eighth of it.
            skip: whether the way up adds the features of the way down.
        """
        super().__init__()
        self.skip = skip

        def down(wide: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(wide, 2 * wide, 4, 2, 1, bias=False))

        def flat(wide: int, narrow: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(wide, narrow, 3, 1, 1, bias=False))

        self.conv0 = nn.Conv2d(3, channels, 3, 1, 1)
        self.conv1 = down(channels)
        self.conv2 = down(2 * channels)
        self.conv3 = down(4 * channels)
        self.conv4 = flat(8 * channels, 4 * channels)
        self.conv5 = flat(4 * channels, 2 * channels)
        self.conv6 = flat(2 * channels, channels)
        self.conv7 = flat(channels, channels)
        self.conv8 = flat(channels, channels)
        self.conv9 = nn.Conv2d(channels, 1, 3, 1, 1)
        self.eval()
        for _ in range(_SETTLING):
            refresh(self)

    def train(self, mode: bool = True) -> UNetDiscriminator:
        """Leaves it in evaluation mode, whatever is asked for."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """How real each place looks.

        Args:
            images: B×3×H×W RGB in [0, 1]; both sides are multiples of 8.

        Returns:
            B×1×H×W logits: above 0 for real.

        Raises:
            InputError: if a side is no multiple of 8.
        """
        if images.shape[-2] % 8 or images.shape[-1] % 8:
            raise InputError(
                "The discriminator takes images whose sides are multiples of 8, and "
                f"{images.shape[-1]}×{images.shape[-2]} pixels came. Choose another patch size."
            )
        full = _leaky(self.conv0(images))
        half = _leaky(self.conv1(full))
        quarter = _leaky(self.conv2(half))
        x = _leaky(self.conv3(quarter))
        for convolution, beside in (
            (self.conv4, quarter),
            (self.conv5, half),
            (self.conv6, full),
        ):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _leaky(convolution(x))
            if self.skip:
                x = x + beside
        return self.conv9(_leaky(self.conv8(_leaky(self.conv7(x)))))


@torch.no_grad()
def refresh(discriminator: nn.Module) -> None:
    """One power iteration of every spectral norm, in place: once a step, before its forwards.

    It depends on nothing but the weights, so it is the same in all processes.
    """
    for module in discriminator.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                hook.compute_weight(module, do_power_iteration=True)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
