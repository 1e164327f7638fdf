"""Restorers in ONNX files: how they are called is read from the file."""

from __future__ import annotations

import copy
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from bfr.errors import (
    CorruptWeightsError,
    MissingPackageError,
    MissingWeightsError,
    WeightsError,
    WrongArchitectureError,
)
from bfr.files.onnx import providers_for
from bfr.restore.load import load_restorer
from bfr.restore.onnx import RANGE, SIGNED, UNSIGNED
from bfr.restore.restorer import restore_faces
from tests.onnx_files import restorer_file, write


@pytest.fixture
def faces() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["GPEN-BFR-512", "restoreformer_plus_plus", "GFPGANv1.4"])
def test_published_files_work_in_minus_1_to_1(name: str, tmp_path: Path, faces: Tensor):
    restorer = load_restorer(restorer_file(tmp_path / f"{name}.onnx"))
    assert (restorer.size, restorer.uses_fidelity, restorer.trainable) == (64, False, False)
    assert restorer.name == name
    expected = (faces * 2 - 1) * 0.5 / 2 + 0.5
    assert torch.allclose(restore_faces(faces, restorer), expected, atol=1e-6)


@pytest.mark.parametrize(("low", "signed"), [(0.0, False), (-1.0, True)])
def test_the_range_of_an_unknown_file_is_found_by_trying(
    low: float, signed: bool, tmp_path: Path, faces: Tensor
):
    restorer = load_restorer(restorer_file(tmp_path / "mine.onnx", low=low, gain=0.8))
    expected = (faces * 2 - 1) * 0.8 / 2 + 0.5 if signed else faces * 0.8
    assert torch.allclose(restore_faces(faces, restorer), expected, atol=1e-6)


@pytest.mark.parametrize("stated", [SIGNED, UNSIGNED])
def test_the_range_that_a_file_states_counts(stated: str, tmp_path: Path, faces: Tensor):
    path = restorer_file(tmp_path / "GFPGAN.onnx", metadata={RANGE: stated})
    expected = (faces * 2 - 1) * 0.5 / 2 + 0.5 if stated == SIGNED else faces * 0.5
    assert torch.allclose(restore_faces(faces, load_restorer(path)), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [[1], [], ["n"]])
def test_codeformers_weight_is_the_fidelity(shape: list, tmp_path: Path, faces: Tensor):
    restorer = load_restorer(restorer_file(tmp_path / "codeformer.onnx", weight=shape))
    assert restorer.uses_fidelity
    for fidelity in (0.0, 0.25, 1.0):
        expected = (faces * 2 - 1) * 0.5 * fidelity / 2 + 0.5
        found = restore_faces(faces, restorer, fidelity=fidelity)
        assert torch.allclose(found, expected, atol=1e-6)


def test_crops_of_another_size_are_resized_and_back(tmp_path: Path):
    restorer = load_restorer(restorer_file(tmp_path / "GPEN.onnx", gain=1.0))
    crops = torch.full((1, 3, 96, 96), 0.3)
    assert torch.allclose(restore_faces(crops, restorer), crops, atol=1e-5)


@pytest.mark.parametrize("side", ["side", None])
def test_a_file_that_leaves_the_size_open_takes_any(side: str | None, tmp_path: Path):
    restorer = load_restorer(restorer_file(tmp_path / "GPEN.onnx", size=side, batch="n"))
    assert restorer.size is None
    assert restore_faces(torch.rand(2, 3, 40, 40), restorer).shape == (2, 3, 40, 40)


def test_half_precision_files_run(tmp_path: Path, faces: Tensor):
    path = restorer_file(tmp_path / "GPEN_fp16.onnx", dtype=TensorProto.FLOAT16)
    expected = (faces * 2 - 1) * 0.5 / 2 + 0.5
    assert torch.allclose(restore_faces(faces, load_restorer(path)), expected, atol=2e-3)


def test_a_copy_works_and_the_checksum_is_the_files(tmp_path: Path, faces: Tensor):
    path = restorer_file(tmp_path / "GPEN.onnx")
    restorer = load_restorer(path)
    network: Any = restorer.network
    again = copy.deepcopy(network)
    assert torch.equal(again.restore(faces), network.restore(faces))
    other = load_restorer(restorer_file(tmp_path / "GPEN2.onnx", gain=0.4))
    assert restorer.sha256 == load_restorer(path).sha256 != other.sha256


def test_what_is_no_onnx_file_is_refused(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match="GPEN"):
        load_restorer(tmp_path / "GPEN.onnx")
    for content in (b"", b"\x08\x07garbage", b"<!DOCTYPE html>", bytes(1000)):
        (tmp_path / "GPEN.onnx").write_bytes(content)
        with pytest.raises(CorruptWeightsError, match="GPEN"):
            load_restorer(tmp_path / "GPEN.onnx")


def test_a_file_cut_short_is_refused(tmp_path: Path):
    path = restorer_file(tmp_path / "GPEN.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptWeightsError, match="GPEN"):
        load_restorer(path)


@pytest.mark.parametrize(
    "options",
    [{"batch": 4}, {"weight": [1, 2, 3]}, {"metadata": {RANGE: "[0, 255]"}}],
)
def test_files_that_are_no_face_restorers_are_refused(options: dict, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"mine\.onnx"):
        load_restorer(restorer_file(tmp_path / "mine.onnx", **options))


def test_an_upscaler_that_hides_its_size_is_refused_when_it_runs(tmp_path: Path, faces: Tensor):
    from onnx import helper

    shape = ["n", 3, "h", "w"]
    path = write(
        tmp_path / "gpen.onnx",
        [helper.make_node("Concat", ["input", "input"], ["output"], axis=2)],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 3, "a", "b"])],
        [],
    )
    with pytest.raises(WrongArchitectureError, match="128"):
        restore_faces(faces, load_restorer(path))


def test_without_onnxruntime_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="pip install onnxruntime"):
        load_restorer(restorer_file(tmp_path / "GPEN.onnx"))


def test_the_provider_follows_the_device(caplog: pytest.LogCaptureFixture):
    every = ["CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider"]
    cpu = "CPUExecutionProvider"
    assert providers_for(torch.device("cpu"), every) == [cpu]
    assert providers_for(torch.device("cuda:1"), every) == [(every[0], {"device_id": 1}), cpu]
    assert providers_for(torch.device("mps"), every) == [(every[1], {}), cpu]
    with caplog.at_level(logging.WARNING):
        assert providers_for(torch.device("cuda"), [cpu]) == [cpu]
    assert "onnxruntime-gpu" in caplog.text
