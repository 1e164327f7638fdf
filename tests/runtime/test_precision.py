"""The number type that networks compute in, and how little it changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from bfr.choices import PRECISIONS
from bfr.errors import InputError
from bfr.faces.align import align_faces
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces
from bfr.runtime.precision import chosen_precision, convert, suited_precision
from tests.portraits import astronaut, only

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def face() -> Tensor:
    """A face of 256 px, 1×3×256×256."""
    image, found = astronaut()
    crops, _ = align_faces(image, only(found, image), 256)
    return crops


def test_auto_is_one_of_the_precisions():
    assert suited_precision(CPU) in PRECISIONS
    assert chosen_precision("auto", CPU) == suited_precision(CPU)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_one_asks_for_is_taken(precision: str):
    assert chosen_precision(precision, CPU) == precision


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="float8"):
        chosen_precision("float8", CPU)
    with pytest.raises(InputError, match="float8"):
        load_restorer(precision="float8")


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [(False, False, "float32"), (False, True, "bfloat16"), (True, False, "bfloat16")],
)
def test_processors(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, expected: str):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert suited_precision(CPU) == expected


@pytest.mark.parametrize(
    ("capability", "name", "expected"),
    [
        ((6, 1), "GTX 1080", "float32"),
        ((7, 5), "GTX 1660", "float32"),
        ((7, 5), "RTX 2070", "float16"),
        ((8, 6), "RTX 3060", "bfloat16"),
    ],
)
def test_nvidia_cards(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str, expected: str
):
    monkeypatch.setattr(torch, "version", SimpleNamespace(hip=None))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert suited_precision(CUDA) == expected


def test_restored_faces_hardly_differ(face: Tensor):
    exact = restore_faces(face, load_restorer(precision="float32"))
    half = restore_faces(face, load_restorer(precision="bfloat16"))
    assert 0 < (half - exact).abs().mean() < 1 / 255


def test_pseudo_targets_hardly_differ(face: Tensor):
    prior = load_prior()
    settings = replace(Guidance().settings(prior), calls=3)
    exact = sample_targets(face, prior, settings).targets
    half = replace(prior, network=copy.deepcopy(prior.network))
    convert(half.network, "bfloat16", CPU)
    difference = sample_targets(face, half, settings).targets - exact
    assert 0 < difference.abs().mean() < 1 / 255
