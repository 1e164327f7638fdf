"""Face parsing with both networks at full size, on random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bfr.choices import REGIONS
from bfr.errors import InputError, MissingWeightsError, WrongArchitectureError
from bfr.faces.parsing import Parser, load_parser, parse_faces


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """Both published networks at full size, with random weights."""
    from facexlib.parsing import BiSeNet, ParseNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {"BiSeNet": BiSeNet(19), "ParseNet": ParseNet(512, 512, parsing_ch=19)}


class Bright(nn.Module):
    """A network that finds skin (class 1) in bright pixels, clothes (18) in dark ones."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        scores = torch.zeros(len(x), 19, *x.shape[2:])
        scores[:, 1] = 100 * x.mean(1)
        scores[:, 18] = -scores[:, 1]
        return (scores,)


def bright() -> Parser:
    return Parser(Bright(), size=512, face=(1,))


@pytest.mark.parametrize("name", ["ParseNet", "BiSeNet"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_layouts_load(
    name: str, suffix: str, networks: dict[str, nn.Module], tmp_path: Path
):
    state, path = networks[name].state_dict(), tmp_path / f"parser{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, path)
    parser = load_parser(path)
    assert type(parser.network).__name__ == name
    assert not parser.network.training
    assert all(torch.equal(v, state[k]) for k, v in parser.network.state_dict().items())
    # Hat, neck, necklace and clothes stand at other numbers; a mix-up would paste them.
    others = {"ParseNet": {0, 14, 16, 17, 18}, "BiSeNet": {0, 14, 15, 16, 18}}
    assert set(parser.face) == set(range(19)) - others[name]
    assert parser.std[0] == pytest.approx({"ParseNet": 0.5, "BiSeNet": 0.229}[name])


@pytest.mark.parametrize("name", ["ParseNet", "BiSeNet"])
def test_published_networks_run(name: str, networks: dict[str, nn.Module], tmp_path: Path):
    torch.save(networks[name].state_dict(), tmp_path / name)
    crops = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    parser = load_parser(tmp_path / name)
    assert parser.size == 512
    masks = parse_faces(crops, replace(parser, size=128))  # as 512, and sooner
    assert masks.shape == (1, 1, 128, 128)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.std() > 0


@pytest.mark.parametrize("size", [64, 512, 600])
def test_the_mask_follows_the_face_softly(size: int):
    crops = torch.zeros(2, 3, size, size)
    crops[0, :, : size // 2] = 1
    masks = parse_faces(crops, bright())
    assert masks.shape == (2, 1, size, size)
    assert masks[0, 0, : size // 3].min() > 0.99
    assert masks[0, 0, -size // 3 :].max() < 0.01
    middle = masks[0, 0, size // 2 - 1 : size // 2 + 1]
    assert middle.mean() == pytest.approx(0.5, abs=0.02)
    assert masks[0].diff(dim=1).abs().max() < 20 / size  # no step
    assert masks[1].max() < 0.01


def test_a_batch_equals_singles():
    crops = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    singles = torch.cat([parse_faces(crop[None], bright()) for crop in crops])
    assert torch.allclose(parse_faces(crops, bright()), singles, atol=1e-6)
    assert parse_faces(crops[:0], bright()).shape == (0, 1, 64, 64)


@pytest.mark.parametrize("name", ["ParseNet", "BiSeNet"])
def test_regions_are_parts_of_the_face(name: str, networks: dict[str, nn.Module], tmp_path: Path):
    torch.save(networks[name].state_dict(), tmp_path / name)
    parts = {each: set(load_parser(tmp_path / name, each).face) for each in REGIONS}
    whole, hair = parts.pop("face"), {"ParseNet": {13}, "BiSeNet": {17}}[name]
    assert whole - parts.pop("without hair") == hair
    assert all(part < whole - hair for part in parts.values())
    assert len(set.union(*parts.values())) == sum(map(len, parts.values())), "none is in two"
    earring = {"ParseNet": {15}, "BiSeNet": {9}}[name]
    assert set.union(*parts.values()) == whole - hair - earring
    with pytest.raises(InputError, match="nostrils"):
        load_parser(tmp_path / name, "nostrils")


def test_a_small_region_is_not_thinned_out_by_its_soft_edge():
    crops = torch.zeros(1, 3, 128, 128)
    crops[..., 60:64, 40:60] = 1  # an eye
    thin, whole = (parse_faces(crops, replace(bright(), grow=grow)) for grow in (0, 0.03))
    assert thin[..., 60:64, 44:56].max() < 0.6
    assert whole[..., 60:64, 40:60].min() > 0.7
    assert whole[..., :40, :].max() < 0.01


def test_other_weights_are_refused(tmp_path: Path):
    with pytest.raises(MissingWeightsError):
        load_parser(tmp_path / "none.pth")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WrongArchitectureError, match=r"conv\.weight"):
        load_parser(tmp_path / "other.pth")
    from facexlib.parsing import BiSeNet

    torch.save(BiSeNet(num_class=11).state_dict(), tmp_path / "eleven.pth")
    with pytest.raises(WrongArchitectureError, match="BiSeNet"):
        load_parser(tmp_path / "eleven.pth")
    with pytest.raises(InputError, match="load_parser"):
        parse_faces(torch.zeros(1, 3, 64, 64), nn.Identity())  # type: ignore[arg-type]
