"""Our own weights are as they were written, wherever they lie."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bfr.errors import CorruptWeightsError
from bfr.files import integrity, manifest
from bfr.files.checksums import file_sha256, tensors_sha256
from bfr.files.integrity import CHECKSUMS, TENSORS
from bfr.files.weights import read_state_dict, write_state_dict

STATE = {"conv.weight": torch.rand(4, 3, 3, 3), "conv.bias": torch.rand(4)}


def flip(path: Path) -> None:
    """One bit near the end of a file, among the values."""
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that comes with the pack."""
    folder = tmp_path.resolve() / "weights"
    folder.mkdir()
    path = folder / "net.safetensors"
    save_file(STATE, path, {"provenance": "ours"})
    (folder / "SHA256SUMS").write_text(f"{file_sha256(path)}  net.safetensors\n")
    monkeypatch.setattr(integrity, "CHECKSUMS", folder / "SHA256SUMS")
    monkeypatch.setattr(integrity, "EMBEDDED_DIR", folder)
    for cached in (integrity.embedded_checksums, integrity.checksums_by_header):
        cached.cache_clear()
    yield path
    for cached in (integrity.embedded_checksums, integrity.checksums_by_header):
        cached.cache_clear()


def test_the_recorded_checksums_are_those_of_the_embedded_weights():
    pairs = (line.split() for line in CHECKSUMS.read_text().splitlines())
    lines = {name: sha256 for sha256, name in pairs}
    found = {p.name: file_sha256(p) for p in manifest.EMBEDDED_DIR.glob("*.safetensors")}
    assert lines == found


def test_each_embedded_file_is_known_by_its_header():
    assert sorted(integrity.checksums_by_header().values()) == sorted(
        integrity.embedded_checksums().values()
    )


def test_damage_to_the_embedded_weights_is_noticed(embedded: Path):
    assert read_state_dict(embedded)[0].keys() == STATE.keys()
    flip(embedded)
    with pytest.raises(CorruptWeightsError, match="sha256"):
        read_state_dict(embedded)


@pytest.mark.parametrize("name", ["net.safetensors", "renamed.safetensors", "odd.pth"])
def test_damage_to_a_copy_of_them_is_noticed(tmp_path: Path, embedded: Path, name: str):
    path = tmp_path / name
    shutil.copy(embedded, path)
    assert read_state_dict(path)[0].keys() == STATE.keys()
    flip(path)
    with pytest.raises(CorruptWeightsError, match="sha256"):
        read_state_dict(path)


@pytest.mark.parametrize("metadata", [None, {"provenance": "somebody else's"}])
def test_other_files_of_the_same_name_are_not_compared(
    tmp_path: Path, embedded: Path, metadata: dict[str, str] | None
):
    path = tmp_path / embedded.name
    save_file({name: tensor + 1 for name, tensor in STATE.items()}, path, metadata)
    assert read_state_dict(path)[1] == (metadata or {})


def test_damage_to_a_written_file_is_noticed(tmp_path: Path):
    path = tmp_path / "tuned.safetensors"
    write_state_dict(path, {**STATE, "half": torch.rand(3).half()}, {"size": "256"})
    state, metadata = read_state_dict(path)
    assert metadata == {"size": "256", TENSORS: tensors_sha256(state)}
    flip(path)
    with pytest.raises(CorruptWeightsError, match="tuned"):
        read_state_dict(path)


def test_a_checksum_is_made_anew_with_the_file(tmp_path: Path):
    path = tmp_path / "tuned.safetensors"
    write_state_dict(path, STATE)
    state, metadata = read_state_dict(path)
    write_state_dict(path, {name: tensor * 2 for name, tensor in state.items()}, metadata)
    assert read_state_dict(path)[1][TENSORS] != metadata[TENSORS]


def test_a_changed_file_that_kept_its_checksum_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "tuned.safetensors"
    write_state_dict(path, STATE)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata)
    with pytest.raises(CorruptWeightsError, match=TENSORS):
        read_state_dict(path)


ODD = [torch.complex64, torch.float8_e4m3fn, torch.bfloat16, torch.bool, torch.int64]


@pytest.mark.parametrize("dtype", ODD)
def test_every_type_of_number_has_a_checksum(dtype: torch.dtype):
    one, other = (torch.tensor(values).to(dtype) for values in ([0.0, 1.0], [1.0, 0.0]))
    found = {tensors_sha256({"x": x}) for x in (one, other, one[:0], one[0])}
    assert len(found) == 4
