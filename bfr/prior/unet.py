"""The diffusion U-Net of the published face priors, in all its dialects, with their key names.

One module on purpose: a network is read from top to bottom, and its parts are a few lines each.

The structure is that of Dhariwal and Nichol (2021), "Diffusion Models Beat GANs", and of Nichol
and Dhariwal (2021), "Improved Denoising Diffusion Probabilistic Models": residual blocks with a
time embedding, attention on the coarse levels, and a skip from every encoder block to a decoder
block. `UNetConfig` lists the differences between the dialects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

GROUPS = 32  # of every group normalisation


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """The structure of a `UNet`.

    Attributes:
        model_channels: width of the sinusoidal time embedding; the learned one is 4 times that.
        channels: of each level, finest first; multiples of 32.
        blocks: residual blocks of each level; the decoder has one more.
        attention: whether each level has attention after its residual blocks.
        in_channels: of the image.
        out_channels: 3, or 6 where the variance is learned too.
        head_channels: channels of an attention head; 0 if `heads` counts them instead.
        heads: attention heads; 0 if `head_channels` gives their width.
        decoder_heads: attention heads in the decoder; 0 for as many as `heads`.
        scale_shift: the time embedding scales and shifts after the normalisation; otherwise it
            is added before.
        residual_resampling: residual blocks change the size; otherwise plain convolutions do.
        new_attention_order: splits queries, keys and values before the heads.
        patch: side of the square of pixels that is folded into channels first (1: none); a
            network for large faces then costs as much as one for faces ``patch`` times smaller.
        detail: channels of a final stage that sees the image and the prediction with 2×2 pixels
            folded (0: none). Where ``patch`` is larger, it keeps fine detail that weak noise
            leaves readable.
    """

    model_channels: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    attention: tuple[bool, ...]
    in_channels: int = 3
    out_channels: int = 3
    head_channels: int = 64
    heads: int = 0
    decoder_heads: int = 0
    scale_shift: bool = True
    residual_resampling: bool = False
    new_attention_order: bool = False
    patch: int = 1
    detail: int = 0


class UNet(nn.Module):
    """Maps a noisy image and its time step to the prior's prediction (noise, velocity or image).

    ``forward(x, t)`` takes B×C×H×W images in [-1, 1] with noise on them, and B time steps of the
    schedule it was trained on; it returns B×``out_channels``×H×W. Both sides must be multiples
    of ``patch · 2^(levels - 1)``.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        folded = config.patch**2
        width, time_width = config.channels[0], 4 * config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, time_width),
            nn.SiLU(),
            nn.Linear(time_width, time_width),
        )

        def resample(channels: int, kind: str) -> nn.Module:
            if config.residual_resampling:
                return _ResidualBlock(channels, channels, time_width, config.scale_shift, kind)
            return _Downsample(channels) if kind == "down" else _Upsample(channels)

        def block(channels: int, to: int, attention: bool, heads: int) -> list[nn.Module]:
            layers: list[nn.Module] = [_ResidualBlock(channels, to, time_width, config.scale_shift)]
            if attention:
                heads = heads or to // config.head_channels
                layers.append(_Attention(to, heads, config.new_attention_order))
            return layers

        encoder: list[list[nn.Module]] = [
            [nn.Conv2d(config.in_channels * folded, width, 3, padding=1)]
        ]
        widths = [width]
        levels = list(zip(config.channels, config.blocks, config.attention, strict=True))
        for level, (to, count, attention) in enumerate(levels):
            for _ in range(count):
                encoder.append(block(width, to, attention, config.heads))
                width = to
                widths.append(width)
            if level < len(levels) - 1:
                encoder.append([resample(width, "down")])
                widths.append(width)
        middle = [*block(width, width, True, config.heads), *block(width, width, False, 0)]
        decoder_heads = config.decoder_heads or config.heads
        decoder = []
        for level, (to, count, attention) in reversed(list(enumerate(levels))):
            for index in range(count + 1):
                layers = block(width + widths.pop(), to, attention, decoder_heads)
                width = to
                if level and index == count:
                    layers.append(resample(width, "up"))
                decoder.append(layers)
        self.input_blocks = nn.ModuleList(_Timed(*layers) for layers in encoder)
        self.middle_block = _Timed(*middle)
        self.output_blocks = nn.ModuleList(_Timed(*layers) for layers in decoder)
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            _zero(nn.Conv2d(width, config.out_channels * folded, 3, padding=1)),
        )
        self.detail = None
        if config.detail:
            images = config.in_channels + config.out_channels
            self.detail = _Detail(images, config.out_channels, config.detail, time_width)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        embedding = time_embedding(t, self.config.model_channels)
        time = self.time_embed(embedding.to(x.dtype))
        image, x = x, F.pixel_unshuffle(x, self.config.patch)
        skips = []
        for block in self.input_blocks:
            x = block(x, time)
            skips.append(x)
        x = self.middle_block(x, time)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], 1), time)
        predicted = F.pixel_shuffle(self.out(x), self.config.patch)
        if self.detail is None:
            return predicted
        return predicted + self.detail(torch.cat([image, predicted], 1), time)


def time_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of the time steps at falling frequencies (Ho et al. 2020).

    Args:
        t: B time steps.
        width: of the embedding; even.

    Returns:
        B×width float32.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class _Timed(nn.Sequential):
    """A sequence that passes the time embedding to its residual blocks."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            x = layer(x, time) if isinstance(layer, _ResidualBlock) else layer(x)
        return x


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, to: int, time_width: int, scale_shift: bool, kind: str = ""):
        super().__init__()
        self.scale_shift, self.kind = scale_shift, kind
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, to, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(time_width, 2 * to if scale_shift else to)
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, to),
            nn.SiLU(),
            nn.Identity(),  # dropout while training; keeps the published key names
            _zero(nn.Conv2d(to, to, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == to else nn.Conv2d(channels, to, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        normalise, activate, convolve = self.in_layers
        h = activate(normalise(x))
        if self.kind:
            h, x = _resized(h, self.kind), _resized(x, self.kind)
        h = convolve(h)
        time = self.emb_layers(time)[..., None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, 1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + time)
        return self.skip_connection(x) + h


class _Detail(nn.Module):
    """A correction of the prediction, computed from it and the noisy image at half their size.

    The linear path, its channels weighted by the time, can mix the two by frequency like a
    Wiener filter; two convolutions with an activation run beside it. Nothing is normalised, so
    the image keeps its contrast.
    """

    def __init__(self, images: int, to: int, channels: int, time_width: int):
        super().__init__()
        self.enter = nn.Conv2d(4 * images, channels, 3, padding=1)
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 3 * channels))
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.leave = _zero(nn.Conv2d(channels, 4 * to, 3, padding=1))

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        scale, shift, gate = self.time(time)[..., None, None].chunk(3, 1)
        x = self.enter(F.pixel_unshuffle(images, 2))
        h = F.silu(self.first(x) * (1 + scale) + shift)
        return F.pixel_shuffle(self.leave((x + self.second(h)) * (1 + gate)), 2)


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int, new_order: bool):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zero(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x.flatten(2)))
        channels = "(three heads c)" if self.new_order else "(heads three c)"
        q, k, v = rearrange(
            qkv, f"b {channels} pixels -> three b heads pixels c", three=3, heads=self.heads
        )
        h = rearrange(
            F.scaled_dot_product_attention(q, k, v), "b heads pixels c -> b (heads c) pixels"
        )
        return x + self.proj_out(h).view_as(x)


class _Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class _Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(_resized(x, "up"))


def _resized(x: Tensor, kind: str) -> Tensor:
    return F.interpolate(x, scale_factor=2.0) if kind == "up" else F.avg_pool2d(x, 2)


def _zero(layer: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    """A layer initialised to zero, so that its block begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
