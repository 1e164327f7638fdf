"""Saved restorers: the published names, and the same network in every loader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from spandrel import MAIN_REGISTRY, ArchRegistry, ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from benchmarks.published.rule_weights import fill_by_rule, published_format
from bfr.errors import InputError, OutputError, WeightsError, WrongArchitectureError
from bfr.files.checksums import network_sha256
from bfr.finetune.save import LICENCE, pairs_sha256, provenance, published_state, save_restorer
from bfr.finetune.settings import PRESETS
from bfr.pairs.pair import Pair
from bfr.restore.load import from_spandrel, load_restorer
from bfr.restore.restorer import Restorer

NARROW = 0.0625


def nafnet() -> NAFNet:
    return NAFNet(width=4, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])


def swinir() -> SwinIR:
    """The published face layout, smaller: an eightfold unshuffle before, upsampling behind."""
    return SwinIR(
        img_size=16, window_size=8, embed_dim=8, depths=[2], num_heads=[2], mlp_ratio=2,
        upsampler="nearest+conv", upscale=8, start_unshuffle=8,
    )  # fmt: skip


def plain_swinir() -> SwinIR:
    return SwinIR(img_size=16, window_size=8, embed_dim=8, depths=[2], num_heads=[2], mlp_ratio=2)


def restoreformer() -> RestoreFormer:
    return RestoreFormer(
        n_embed=16, embed_dim=32, ch=32, ch_mult=(1, 1, 1, 1, 1, 1), num_res_blocks=1, z_channels=32
    )


def gfpgan() -> nn.Module:
    """A sixteenth of the channels. Spandrel's loader knows the published width alone."""
    return GFPGAN(narrow=NARROW, num_style_feat=16)  # type: ignore[arg-type]


@pytest.fixture
def narrow_gfpgan(monkeypatch: pytest.MonkeyPatch):
    """Spandrel's loader takes the network of `gfpgan`."""

    def make(**options: Any) -> nn.Module:
        return GFPGAN(**{**options, "narrow": NARROW, "num_style_feat": 16})

    monkeypatch.setattr("spandrel.architectures.GFPGAN.GFPGAN", make)


def codeformer() -> nn.Module:
    extra = pytest.importorskip("spandrel_extra_arches.architectures.CodeFormer")
    return extra.CodeFormer(dim_embd=64, n_layers=1, codebook_size=32)


def extra_registry() -> ArchRegistry:
    return pytest.importorskip("spandrel_extra_arches").EXTRA_REGISTRY


def original(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors by the names that its published checkpoint has."""
    unshuffled = getattr(network, "start_unshuffle", 1) > 1
    return {
        name.replace("conv_first.", "conv_first.1.") if unshuffled else name: tensor
        for name, tensor in fill_by_rule(network).state_dict().items()
    }


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (nafnet, 64),
        (swinir, 128),
        (plain_swinir, 32),
        (restoreformer, 512),
        (gfpgan, 512),
        (codeformer, 512),
    ],
)
@pytest.mark.usefixtures("narrow_gfpgan")
@torch.inference_mode()
def test_a_saved_restorer_is_the_published_file(
    make: Callable[[], nn.Module], size: int, tmp_path: Path
):
    """Names and values; and our loader and spandrel's give the same network."""
    published = original(make())
    tag = {"size": str(size)} if make is nafnet else None
    save_file(published, tmp_path / "published.safetensors", tag)
    restorer = load_restorer(tmp_path / "published.safetensors")
    path = tmp_path / "saved.safetensors"
    save_restorer(path, restorer, {"provenance": "a test"})

    saved = load_file(path)
    assert saved.keys() == published.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in published.items())
    told = metadata_of(path)
    assert told["architecture"] == restorer.architecture and told["provenance"] == "a test"
    assert told.get("size") == (str(restorer.size) if restorer.size else None)
    registry = MAIN_REGISTRY if make is not codeformer else extra_registry()
    stock = from_spandrel(ModelLoader(registry=registry).load_from_file(path))
    ours = load_restorer(path)
    assert ours.size == restorer.size
    for again in (ours, stock):
        assert network_sha256(again.network) == network_sha256(restorer.network)
        if size < 512:  # which takes long
            face = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
            assert torch.equal(again(face), restorer(face))


def test_the_names_of_the_published_swinir():
    """All names outside of its layers, and those of the first blocks of the first layers."""
    published = {
        name: tensor
        for name, tensor in published_format("swinir_gan_v1.pth")["tensors"].items()
        if re.match(r"(?!layers)|layers\.[01]\.(?!residual_group\.blocks\.[2-5])", name)
    }
    network = SwinIR(
        img_size=64, window_size=8, embed_dim=180, depths=[2, 2], num_heads=[6, 6], mlp_ratio=2,
        upsampler="nearest+conv", upscale=8, start_unshuffle=8,
    )  # fmt: skip
    restorer = from_spandrel(ModelLoader().load_from_state_dict(original(network)))
    shapes = {
        name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in published_state(restorer).items()
    }
    assert shapes == published


@pytest.fixture
def restorer(tmp_path: Path) -> Restorer:
    save_file(original(nafnet()), tmp_path / "base.safetensors", {"size": "64"})
    return load_restorer(tmp_path / "base.safetensors")


def test_half_precision(restorer: Restorer, tmp_path: Path):
    before = network_sha256(restorer.network)
    paths = [tmp_path / f"{name}.safetensors" for name in ("full", "half")]
    save_restorer(paths[0], restorer)
    save_restorer(paths[1], restorer, half=True)
    assert network_sha256(restorer.network) == before, "the restorer itself is not changed"
    full, half = map(load_file, paths)
    assert all(torch.equal(half[name], full[name].half()) for name in full)
    loaded = load_restorer(paths[1])
    assert loaded.dtype == torch.float32
    face = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        away = loaded(face) - restorer(face)
    assert away.abs().max() < 0.05


def test_masks_and_indices_keep_their_type(tmp_path: Path):
    save_file(original(swinir()), tmp_path / "base.safetensors")
    save_restorer(
        tmp_path / "half.safetensors", load_restorer(tmp_path / "base.safetensors"), half=True
    )
    saved = load_file(tmp_path / "half.safetensors")
    indices = [name for name in saved if name.endswith("relative_position_index")]
    assert indices and all(saved[name].dtype == torch.int64 for name in indices)


def test_weights_that_no_one_could_use_are_not_written(restorer: Restorer, tmp_path: Path):
    path = tmp_path / "saved.safetensors"
    save_restorer(path, restorer)
    before = path.read_bytes()
    weight = restorer.network.get_parameter("intro.weight")
    weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"float16.*float32"):
        save_restorer(path, restorer, half=True)
    weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(WeightsError, match="NaN"):
        save_restorer(path, restorer)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_bad_words(restorer: Restorer, tmp_path: Path):
    with pytest.raises(InputError, match=r"\.safetensors"):
        save_restorer(tmp_path / "saved.pth", restorer)
    with pytest.raises(InputError, match="'step'"):
        save_restorer(tmp_path / "saved.safetensors", restorer, {"step": 3})  # type: ignore[dict-item]
    with pytest.raises(OutputError):
        save_restorer(tmp_path / "absent" / "saved.safetensors", restorer)
    compact = Compact(num_feat=8, num_conv=1, upscale=1)
    other = from_spandrel(ModelLoader().load_from_state_dict(compact.state_dict()))
    with pytest.raises(WrongArchitectureError, match=r"SwinIR.*Compact"):
        save_restorer(tmp_path / "saved.safetensors", other)


def pair(name: str, **sha256: str) -> Pair:
    return Pair(
        name, f"{name}.png", "0", 0, [], [], 1.0,
        guess={"restorer": {"name": "NAFNet", "sha256": "r"}},
        target={"prior": {"name": "embedded", "sha256": "p"}},
        sha256={"lq": "1", "target": "2", **sha256},
    )  # fmt: skip


def test_provenance(restorer: Restorer, tmp_path: Path):
    pairs, settings = [pair("a"), pair("b")], PRESETS["quick"]
    told = provenance("abcdef0123456789", pairs, settings, step=200, distance="pyramid")
    assert (
        "200 of 500 steps on 2 pairs" in told["provenance"] and "abcdef0123" in told["provenance"]
    )
    assert told["licence"] == LICENCE and told["distance"] == "pyramid"
    assert json.loads(told["settings"]) == settings.as_dict()
    made_by = {"prior": ["p"], "restorer": ["r"]}
    assert json.loads(told["pairs"]) == {"count": 2, "sha256": pairs_sha256(pairs), **made_by}
    save_restorer(tmp_path / "tuned.safetensors", restorer, told)
    assert told.items() <= metadata_of(tmp_path / "tuned.safetensors").items()
    own = provenance("a", [replace(pair("a"), guess={"name": "x.png"})], settings, step=0)
    assert json.loads(own["pairs"])["restorer"] == [], "guesses of another tool"
    odd = [{"restorer": {"sha256": sha256}} for sha256 in ([], {}, 7, None)]
    strangers = [replace(pair("a"), guess=guess) for guess in odd]
    told = provenance("a", [pair("b"), *strangers], settings, step=0)
    assert json.loads(told["pairs"])["restorer"] == ["r"], "what a stranger's list may hold"


def test_the_pairs_checksum_is_that_of_their_pictures():
    first = pairs_sha256([pair("a"), pair("b")])
    assert first == pairs_sha256([pair("b"), pair("a")])
    assert first == pairs_sha256([replace(pair("a"), flags=["soft"]), pair("b")])
    others = ([pair("a")], [pair("a"), pair("c")], [pair("a"), pair("b", target="3")])
    assert len({first, *map(pairs_sha256, others)}) == 4
