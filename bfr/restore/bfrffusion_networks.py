"""The two networks that BFRffusion adds to Stable Diffusion, under their published key names.

Chen et al., "Towards Real-World Blind Face Restoration with Generative Diffusion Prior"
(arXiv 2312.15736): `FaceFeatures` (their MFEM) reads the damaged face and steers the U-Net,
`TimePrompt` (their TTPM) stands in for the text encoder.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256)
_HINT_HALVED_AT = (2, 4, 6)
_GROUPS = 32


class TimePrompt(nn.Module):
    """A prompt of learned tokens that depends on the time step alone (the paper's TTPM).

    Args:
        time_width: of the sinusoidal embedding of the time step.
        width: of the tokens inside.
        tokens: in a prompt.
        context_width: of the tokens that the U-Net takes.
    """

    def __init__(self, time_width: int, width: int, tokens: int, context_width: int):
        super().__init__()
        self.time_width = time_width
        self.learnable_param = nn.Parameter(torch.empty(tokens, context_width))
        self.time_embed = nn.Sequential(
            nn.Linear(time_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.transform_in = nn.Sequential(
            nn.Linear(context_width, width), nn.Tanh(), nn.Linear(width, width)
        )
        self.atten = nn.ModuleDict(
            {name: nn.Linear(width, width, bias=False) for name in ("to_q", "to_k", "to_v")}
        )
        self.atten["to_out"] = nn.ModuleList([nn.Linear(width, width)])
        self.transform_out = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, context_width)
        )

    def forward(self, t: Tensor) -> Tensor:
        """B×tokens×context_width for B time steps."""
        time = F.normalize(self.time_embed(_time_embedding(t, self.time_width, self)), dim=-1)
        prompt = F.normalize(self.transform_in(self.learnable_param), dim=-1)
        # Every token attends to copies of one time vector, so queries and keys change nothing.
        attended = self.atten["to_out"][0](self.atten["to_v"](time))[:, None]  # pyright: ignore[reportIndexIssue]
        context = self.transform_out(prompt + attended)
        return F.normalize(context, dim=1)  # over the tokens, as published; not the channels


class FaceFeatures(nn.Module):
    """Nine residuals for the U-Net from a damaged face and the noisy latent (the paper's MFEM).

    Args:
        width: of the finest scale; the next ones are 2 and 4 times as wide.
        time_width: of the learned time embedding.
        hidden: channels of the feed-forward parts at each of the three widths.
    """

    def __init__(self, width: int, time_width: int, hidden: tuple[int, int, int]):
        super().__init__()
        self.width = width
        self.time_embed = nn.Sequential(
            nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        self.input_hint_block = nn.Sequential(*_hint_layers(width))
        self.input_blocks = nn.ModuleList([nn.Conv2d(4, width, 3, padding=1)])
        self.resblock = _ResidualBlock(width, time_width)
        widths = (width, 2 * width, 4 * width, 4 * width)

        def block(scale: int) -> _TransformerBlock:
            return _TransformerBlock(
                widths[scale], time_width, hidden[min(scale, 2)], heads=2**scale
            )

        self.encoder1, self.encoder2, self.encoder3 = block(0), block(1), block(2)
        self.mid1, self.mid2, self.mid3 = block(3), block(3), block(3)
        self.decoder3, self.decoder2, self.decoder1 = block(2), block(1), block(0)
        for level in (1, 2, 3):
            fine, coarse = widths[level - 1], widths[level]
            down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
            up = nn.Conv2d(coarse, fine, 3, padding=1)
            reduce = nn.Conv2d(2 * fine, fine, 1, bias=False)
            self.add_module(f"down{level}", nn.ModuleDict({"op": down}))
            self.add_module(f"up{level}", nn.ModuleDict({"conv": up}))
            self.add_module(f"reduce_chan_level{level}", reduce)
        outputs = [widths[scale] for scale in (0, 1, 2, 3, 3, 3, 2, 1, 0)]
        self.zero_convs_module = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c, 1)) for c in outputs)

    def forward(self, x: Tensor, hint: Tensor, t: Tensor) -> list[Tensor]:
        """The residuals, in the order of `ControlledUNet`.

        Args:
            x: B×4×S×S noisy latents; S is a multiple of 8.
            hint: B×3×8S×8S damaged faces, RGB in [0, 1].
            t: B time steps.
        """
        time = self.time_embed(_time_embedding(t, self.width, self))
        h = self.input_blocks[0](x) + self.input_hint_block(hint)
        h = self.resblock(h, time)
        found: list[Tensor] = []
        skips: list[Tensor] = []
        for level, encoder in enumerate((self.encoder1, self.encoder2, self.encoder3), 1):
            h = encoder(h, time)
            skips.append(h)
            found.append(h)
            h = self.get_submodule(f"down{level}.op")(h)
        for middle in (self.mid1, self.mid2, self.mid3):
            h = middle(h, time)
            found.append(h)
        for level, decoder in ((3, self.decoder3), (2, self.decoder2), (1, self.decoder1)):
            h = self.get_submodule(f"up{level}.conv")(F.interpolate(h, scale_factor=2.0))
            h = self.get_submodule(f"reduce_chan_level{level}")(torch.cat([h, skips.pop()], 1))
            h = decoder(h, time)
            found.append(h)
        return [leave(h) for leave, h in zip(self.zero_convs_module, found, strict=True)]


def _hint_layers(width: int) -> list[nn.Module]:
    """Eight convolutions, three of which halve the image: from pixels to the latent's size."""
    widths = (3, *_HINT_WIDTHS, width)
    layers: list[nn.Module] = []
    for index, (given, to) in enumerate(pairwise(widths)):
        stride = 2 if index in _HINT_HALVED_AT else 1
        layers += [nn.Conv2d(given, to, 3, stride=stride, padding=1), nn.SiLU()]
    return layers[:-1]


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, time_width: int):
        super().__init__()
        norm, convolve = (
            nn.GroupNorm(_GROUPS, channels),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.in_layers = nn.Sequential(norm, nn.SiLU(), convolve)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, channels))
        norm, convolve = (
            nn.GroupNorm(_GROUPS, channels),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        # Identity: dropout while training; keeps the published key names.
        self.out_layers = nn.Sequential(norm, nn.SiLU(), nn.Identity(), convolve)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(time)[..., None, None]
        return x + self.out_layers(h)


class _TransformerBlock(nn.Module):
    """Attention and feed-forward of Restormer (Zamir et al. 2022), modulated by the time."""

    def __init__(self, channels: int, time_width: int, hidden: int, heads: int):
        super().__init__()
        self.norm1 = nn.ModuleDict({"body": nn.LayerNorm(channels)})
        self.attn = _ChannelAttention(channels, heads)
        self.norm2 = nn.ModuleDict({"body": nn.LayerNorm(channels)})
        self.ffn = _GatedFeedForward(channels, hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 6 * channels))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        modulation = self.adaLN_modulation(time)[..., None, None].chunk(6, 1)
        for norm, layer, (shift, scale, gate) in (
            (self.norm1, self.attn, modulation[:3]),
            (self.norm2, self.ffn, modulation[3:]),
        ):
            normalised = norm["body"](x.movedim(1, -1)).movedim(-1, 1)
            x = x + gate * layer(normalised * (1 + scale) + shift)
        return x


class _ChannelAttention(nn.Module):
    """Attention of channels to channels, over all pixels."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.empty(heads, 1, 1))
        wide = 3 * channels
        self.qkv = nn.Conv2d(channels, wide, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x)).flatten(2)
        q, k, v = (part.unflatten(1, (self.heads, -1)) for part in qkv.chunk(3, 1))
        similar = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        attended = (similar * self.temperature).softmax(-1) @ v
        return self.project_out(attended.flatten(1, 2).view_as(x))


class _GatedFeedForward(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        gates = 2 * hidden
        self.project_in = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(gates, gates, 3, padding=1, groups=gates, bias=False)
        self.pwconw = nn.Conv2d(hidden, hidden, 1, bias=False)  # spelled so in the checkpoint
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, rest = self.project_in(x).tensor_split([self.pwconw.in_channels], 1)
        b, g = self.dwconv(rest).chunk(2, 1)
        return self.project_out(F.gelu(a) * g + F.gelu(b) * g + self.pwconw(g))


def _time_embedding(t: Tensor, width: int, network: nn.Module) -> Tensor:
    """Cosines, then sines, of the time steps, in the network's own type."""
    from diffusers.models.embeddings import get_timestep_embedding

    embedding = get_timestep_embedding(t, width, flip_sin_to_cos=True, downscale_freq_shift=0)
    return embedding.to(next(network.parameters()).dtype)
