"""Restorers as ONNX files: the same pixels as ours, called as other programs call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from bfr.errors import CorruptWeightsError, InputError, OutputError, WrongArchitectureError
from bfr.files.integrity import SEAL
from bfr.restore.load import load_restorer
from bfr.restore.onnx_export import export_onnx
from bfr.restore.restorer import Restorer, restore_faces
from tests.onnx_files import restorer_file
from tests.trainable import gfpgan, nafnet, restoreformer, swinir


def as_others_do(path: Path, faces: Tensor) -> Tensor:
    """Restores as FaceFusion and ReActor do: [-1, 1], the input "input", one face, clipped."""
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results = [
        session.run(None, {"input": face.numpy() * np.float32(2) - np.float32(1)})[0][0]
        for face in faces.split(1)
    ]
    return (torch.from_numpy(np.stack(results)).clamp(-1, 1) + 1) / 2


def crops(size: int) -> Tensor:
    """Two faces; a single one where they are large."""
    return torch.rand(
        2 if size < 512 else 1, 3, size, size, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (nafnet, 64),
        (lambda: replace(nafnet(), size=32), 64),
        (lambda: replace(nafnet(), size=64), 48),
        (swinir, 32),
        (gfpgan, 64),
        (lambda: replace(restoreformer(), size=128), 128),
    ],
    ids=["NAFNet", "NAFNet enlarged", "NAFNet reduced", "SwinIR", "GFPGAN", "RestoreFormer"],
)
def test_other_programs_get_the_same_pixels(
    make: Callable[[], Restorer], size: int, tmp_path: Path
):
    restorer, faces = replace(make(), precision="float32"), crops(size)
    path = tmp_path / "tuned.onnx"
    export_onnx(path, restorer, {"licence": "MIT"}, size)
    expected = restore_faces(faces, restorer)
    assert not torch.allclose(expected, faces, atol=1e-2), "it does something"
    assert float((as_others_do(path, faces) - expected).abs().max()) < 1 / 255
    again = load_restorer(path)
    assert again.size == size
    network: Any = again.network
    assert network.metadata["licence"] == "MIT"
    assert float((restore_faces(faces, again) - expected).abs().max()) < 1 / 255


def test_the_embedded_restorer_takes_the_size_that_other_programs_give(tmp_path: Path):
    restorer = load_restorer()
    export_onnx(tmp_path / "a.onnx", restorer)
    faces = crops(512)
    found = as_others_do(tmp_path / "a.onnx", faces)
    ours = restore_faces(faces, replace(restorer, precision="float32"))  # as the file computes
    assert float((found - ours).abs().max()) < 1e-4


def test_nodes_in_inference_mode_can_export_and_nothing_changes(tmp_path: Path):
    with torch.inference_mode():
        restorer = nafnet()
        before = restorer.sha256
        export_onnx(tmp_path / "a.onnx", restorer, size=32)
    assert restorer.sha256 == before
    assert load_restorer(tmp_path / "a.onnx").size == 32


def test_a_restorer_that_is_no_network_of_torch_is_refused(tmp_path: Path):
    export_onnx(tmp_path / "a.onnx", nafnet(), size=32)
    with pytest.raises(WrongArchitectureError, match="ONNX"):
        export_onnx(tmp_path / "b.onnx", load_restorer(tmp_path / "a.onnx"))
    with pytest.raises(WrongArchitectureError, match="safetensors"):
        export_onnx(tmp_path / "b.onnx", replace(nafnet(), uses_fidelity=True))
    assert not (tmp_path / "b.onnx").exists()


def test_a_size_or_a_folder_that_cannot_be_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="8"):
        export_onnx(tmp_path / "a.onnx", nafnet(), size=8)
    with pytest.raises(OutputError, match="missing"):
        export_onnx(tmp_path / "missing" / "a.onnx", nafnet(), size=32)
    assert not list(tmp_path.iterdir())


def test_only_an_earlier_export_is_replaced(tmp_path: Path):
    path = tmp_path / "a.onnx"
    export_onnx(path, nafnet(), size=32)
    export_onnx(path, nafnet(seed=1), size=32)
    others = (b"notes", restorer_file(tmp_path / "GPEN.onnx").read_bytes())
    for content in others:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.onnx"):
            export_onnx(path, nafnet(), size=32)
        assert path.read_bytes() == content


def test_an_export_of_which_a_bit_changed_is_refused(tmp_path: Path):
    path = tmp_path / "a.onnx"
    export_onnx(path, nafnet(), size=32)
    content = path.read_bytes()
    for place in range(len(content) // 20, len(content), len(content) // 10):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptWeightsError):
            load_restorer(path)
    path.write_bytes(content)
    assert load_restorer(path).size == 32


def test_an_export_without_a_checksum_still_loads(tmp_path: Path):
    import onnx

    path = tmp_path / "a.onnx"
    export_onnx(path, nafnet(), size=32)
    model = onnx.load(str(path))
    facts = {entry.key: entry.value for entry in model.metadata_props if entry.key != SEAL}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(path))
    assert load_restorer(path).size == 32
