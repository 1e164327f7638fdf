"""Pairs folders, a tiny restorer and quick settings for the tests of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from spandrel import ModelLoader
from spandrel.architectures.NAFNet import NAFNet
from torch import Tensor

from benchmarks.pair_folders import write_pairs
from bfr.finetune.settings import FinetuneSettings
from bfr.pairs.folder import PairSet
from bfr.restore.load import from_spandrel
from bfr.restore.restorer import Restorer

SIZE = 32
QUICK = FinetuneSettings(
    steps=4,
    batch=4,
    micro_batch=2,
    patch=16,
    lr=1e-3,
    discriminator_channels=4,
    held_back=0.3,
    ema=0.5,
    weight_decay=0.01,
    clip=1.0,
)
PLAIN = replace(QUICK, adversarial=0.0, perceptual=0.0, ema=0.0, patch=None, clip=0.0)


def tiny_restorer(seed: int = 0, scale: float = 0.1) -> Restorer:
    """A NAFNet of some thousand parameters, which changes its input a little."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NAFNet(
            width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1], img_channel=3
        )
        for name, parameter in network.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.data.normal_(0, scale)
    restorer = from_spandrel(ModelLoader().load_from_state_dict(network.state_dict()))
    return replace(restorer, size=SIZE)


def faces(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    """Smooth pictures with some texture, N×3×S×S in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=random)
    fine = torch.rand(count, 3, size, size, generator=random)
    return (0.8 * F.interpolate(coarse, size, mode="bicubic") + 0.2 * fine).clamp(0.05, 0.95)


def darker(target: Tensor) -> Tensor:
    """Damage that is easy to learn to mend."""
    return target * 0.7


def pairs_folder(
    folder: Path, count: int = 6, damage: Callable[[Tensor], Tensor] = darker, size: int = SIZE
) -> PairSet:
    """A finished pairs folder; ``damage`` makes the degraded faces of the targets."""
    targets = faces(count, size=size)
    damaged = torch.cat([damage(target) for target in targets.split(1)])
    return write_pairs(folder, damaged, damaged, targets)
