"""Discriminators: the published U-Net, and a small network that sees details."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm, spectral_norm

from ..errors import InputError

_SETTLING = 20  # power iterations of a new discriminator
_GAIN = 10.0  # of the detail in `DetailDiscriminator`, which is faint compared with the image


class UNetDiscriminator(nn.Module):
    """The discriminator of Wang et al., "Real-ESRGAN" (ICCV Workshops 2021), section 3.3.

    A U-Net with spectral normalisation (Miyato et al., ICLR 2018), whose tensors have the names
    of the published files. It is never in training mode: there each forward pass would change it
    by a power iteration, and results would depend on how a batch is split into micro-batches and
    over processes. Call `refresh` once per step instead.
    """

    def __init__(self, channels: int = 64) -> None:
        """Draws random weights from PyTorch's own generator.

        Args:
            channels: features at full size; eight times as many at an eighth of it.
        """
        super().__init__()

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
        """Stays in evaluation mode, whatever is asked for."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Returns how real each place looks.

        Args:
            images: B×3×H×W RGB in [0, 1]; both sides are multiples of 8.

        Returns:
            B×1×H×W logits: above 0 for real.

        Raises:
            InputError: if a side is no multiple of 8.
        """
        if images.shape[-2] % 8 or images.shape[-1] % 8:
            raise InputError(
                "The discriminator's images must have sides that are multiples of 8, got "
                f"{images.shape[-1]}×{images.shape[-2]} pixels. Choose another patch size."
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
            x = _leaky(convolution(x)) + beside
        return self.conv9(_leaky(self.conv8(_leaky(self.conv7(x)))))


class DetailDiscriminator(nn.Module):
    """A small network that judges texture and edges, in squares of about 30 pixels.

    It sees the detail by itself, amplified, and has no normalisation, so it tells restored faces
    from clean ones after about forty steps of four faces. The U-Net with spectral normalisation
    needs thousands, and heads on the features of the embedded prior were hardly faster. Nothing
    bounds its gradients: use them through `balanced`.

    The detail that it asks for may be a grid of the restorer's own; `losses.pattern` is against
    that. Means of four in place of the strides, or faces shifted at random, did not help: grids
    that the adversary cannot tell from detail grow, up to a checker of 2 px.
    """

    def __init__(self, channels: int = 32) -> None:
        """Draws random weights from PyTorch's own generator.

        Args:
            channels: features at full size; three times as many at an eighth of it.
        """
        super().__init__()
        wide = 2 * channels, 3 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(6, channels, 3, 1, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels, wide[0], 3, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(wide[0], wide[1], 3, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(wide[1], wide[1], 3, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(wide[1], 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns how real each place looks.

        Args:
            images: B×3×H×W RGB in [0, 1].

        Returns:
            B×1×⌈H/8⌉×⌈W/8⌉ logits: above 0 for real.
        """
        # Sums of slices: pooling three channels in channels-last order takes thrice the time.
        x = F.pad(images, (1, 1, 1, 1), mode="replicate")
        x = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
        smooth = (x[..., :-2] + x[..., 1:-1] + x[..., 2:]) / 9
        return self.layers(torch.cat([images, _GAIN * (images - smooth)], 1))


def balanced(
    images: Tensor,
    others: Tensor,
    adversarial: Callable[[Tensor], Tensor],
    share: float,
) -> Tensor:
    """An adversarial loss whose gradient norm is a fixed share of the other losses' gradient norm.

    So it pulls as strongly at the end as at the beginning, whatever the discriminator learned.
    The norms are taken per image, so that it does not matter how a batch is split. After the
    adaptive weight of Esser et al., "Taming Transformers" (CVPR 2021, eq. 7).

    Args:
        images: B×3×H×W, of which the losses are taken; in float32, which loses no gradients.
        others: the sum of the other losses of images, a mean over them; its graph is kept.
        adversarial: the adversarial loss of images, a mean over them.
        share: of the norms.

    Returns:
        A scalar of the value ``share · adversarial(images)``. The graph of ``adversarial`` is
        kept, for the discriminator's own loss.
    """
    leaf = images.detach().requires_grad_()
    kind = images.device.type
    # These gradients are not scaled, so float16 would lose them; bfloat16 does not.
    half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    with torch.autocast(kind, torch.bfloat16, enabled=half):
        value = adversarial(leaf)
    with torch.autocast(kind, enabled=False):
        (wanted,) = torch.autograd.grad(others, images, retain_graph=True)
        (pulled,) = torch.autograd.grad(value, leaf, retain_graph=True)
    norms = [gradient.flatten(1).norm(dim=1) for gradient in (wanted, pulled)]
    scale = share * norms[0] / norms[1].clamp(min=1e-12)
    return _carrying(share * value, images, scale[:, None, None, None] * pulled)


def with_gradient(value: Tensor, images: Tensor) -> Tensor:
    """The same scalar, its gradient to images computed now: to ask for it again costs nothing."""
    return _carrying(value, images, torch.autograd.grad(value, images)[0])


def _carrying(value: Tensor, images: Tensor, gradient: Tensor) -> Tensor:
    """A scalar of a value, with a gradient to images."""
    surrogate = (images * gradient).sum()
    return value.detach() + (surrogate - surrogate.detach())


@torch.no_grad()
def refresh(discriminator: nn.Module) -> None:
    """Does one power iteration of every spectral norm, in place; call it once per step.

    It depends on nothing but the weights, so it is the same in all processes.
    """
    for module in discriminator.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                hook.compute_weight(module, do_power_iteration=True)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
