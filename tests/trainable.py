"""Tiny restorers of each architecture that can be trained, with weights by rule."""

from __future__ import annotations

from dataclasses import replace

from spandrel import ImageModelDescriptor
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel.architectures.SwinIR import SwinIR
from torch import nn

from benchmarks.published.rule_weights import fill_by_rule
from bfr.restore.load import from_spandrel
from bfr.restore.restorer import Restorer
from tests.pair_sets import Known


def describe(network: nn.Module, architecture: str) -> Restorer:
    """A restorer of that architecture, without spandrel's loader."""
    return from_spandrel(
        ImageModelDescriptor(
            network, network.state_dict(), Known(architecture), "SR", [], True, True, 1, 3, 3
        )
    )


def nafnet(width: int = 4, seed: int = 0) -> Restorer:
    """Some 2000 parameters; changes its input a little. Sides are multiples of 4."""
    network = NAFNet(width=width, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    fill_by_rule(network, seed)
    network.ending.weight.data.mul_(0.05)
    return describe(network, "NAFNet")


def swinir(drop_path_rate: float = 0.0) -> Restorer:
    """Two stages of two blocks; sides are multiples of 8."""
    network = SwinIR(
        img_size=8,
        embed_dim=8,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=8,
        upsampler="",
        mlp_ratio=2,
        upscale=1,
        drop_path_rate=drop_path_rate,
    )
    return describe(fill_by_rule(network), "SwinIR")


def gfpgan() -> Restorer:
    """A sixteenth of the channels, and faces of 64 px instead of 512."""
    network = GFPGAN(out_size=64, narrow=0.0625, num_style_feat=16)  # type: ignore[arg-type]
    return replace(describe(fill_by_rule(network), "GFPGAN"), size=64)


def restoreformer() -> Restorer:
    """32 channels throughout; 512 px faces, slow."""
    network = RestoreFormer(
        n_embed=16, embed_dim=32, ch=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1, z_channels=32
    )
    return describe(fill_by_rule(network), "RestoreFormer")
