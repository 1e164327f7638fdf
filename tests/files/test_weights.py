"""Reading weights files and downloading published ones."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from bfr.errors import (
    CorruptWeightsError,
    MissingWeightsError,
    OutputError,
    UnsafeWeightsError,
    WeightsError,
    WrongArchitectureError,
)
from bfr.files import weights
from bfr.files.pickled import holds_network, read_pickled
from bfr.files.weights import read_state_dict, write_state_dict

STATE = {"conv.weight": torch.rand(4, 3, 3, 3), "conv.bias": torch.rand(4)}


def same(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[n], STATE[n]) for n in STATE)


# Reading ---------------------------------------------------------------------------------------


def test_safetensors_with_metadata(tmp_path: Path):
    path = tmp_path / "net.safetensors"
    save_file(STATE, path, metadata={"size": "256"})
    state, metadata = read_state_dict(path)
    assert same(state)
    assert metadata == {"size": "256"}


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "params_ema", "params", "state_dict", "model"])
def test_torch_files_and_their_wrappers(
    tmp_path: Path, wrapper: str | None, prefix: str, old_format: bool
):
    named = {prefix + name: tensor for name, tensor in STATE.items()}
    content = named if wrapper is None else {wrapper: named, "iteration": 5}
    path = tmp_path / "net.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    state, metadata = read_state_dict(path)
    assert same(state)
    assert metadata == {}


def test_the_averaged_weights_are_preferred(tmp_path: Path):
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    torch.save({"params": other, "params_ema": STATE}, tmp_path / "net.pth")
    assert same(read_state_dict(tmp_path / "net.pth")[0])


def test_a_prefix_of_some_names_is_kept(tmp_path: Path):
    named = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    torch.save(named, tmp_path / "net.pth")
    assert read_state_dict(tmp_path / "net.pth")[0].keys() == named.keys()


def test_safetensors_by_another_suffix(tmp_path: Path):
    save_file(STATE, tmp_path / "net.pth")
    assert same(read_state_dict(tmp_path / "net.pth")[0])


class Malicious:
    """Pickles as a call that leaves a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("how", ["torch", "old torch", "pickle"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, how: str):
    trace, path = tmp_path / "was run", tmp_path / "net.pth"
    content = {"conv.weight": Malicious(trace)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(UnsafeWeightsError, match=r"net\.pth.*pickled code"):
        read_state_dict(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists(), "the file would have done harm"


def test_whole_networks_are_code(tmp_path: Path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(UnsafeWeightsError, match="Linear"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize("file", ["net.pth", "old.pth", "net.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_truncated_files(tmp_path: Path, file: str, share: float):
    path = tmp_path / file
    state = {"weight": torch.rand(1000)}
    if file.endswith(".pth"):
        torch.save(state, path, _use_new_zipfile_serialization=file == "net.pth")
    else:
        save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CorruptWeightsError, match=r"(?i)again"):
        read_state_dict(path)


@pytest.mark.parametrize("file", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"\n<!DOCTYPE html><html>Not Found</html>", b"version https://git-lfs.github.com/spec/v1\n"],
)
def test_a_web_page_is_no_weights_file(tmp_path: Path, file: str, content: bytes):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CorruptWeightsError, match="web page"):
        read_state_dict(tmp_path / file)


@pytest.mark.parametrize("content", [{}, [1, 2], {"weight": torch.zeros(1), "step": 3}, {"a": {}}])
def test_files_without_a_state_dict(tmp_path: Path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CorruptWeightsError, match=r"net\.pth"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_named(tmp_path: Path, value: float):
    damaged = {**STATE, "conv.bias": torch.tensor([0.0, value, 0.0, 0.0])}
    save_file(damaged, tmp_path / "net.safetensors")
    with pytest.raises(CorruptWeightsError, match=r"conv\.bias"):
        read_state_dict(tmp_path / "net.safetensors")


def test_missing_file_says_where_it_belongs(tmp_path: Path):
    with pytest.raises(MissingWeightsError, match=r"download gfpgan-1\.4.*facerestore_models"):
        read_state_dict(tmp_path / "GFPGANv1.4.pth")
    with pytest.raises(MissingWeightsError, match=r"mine\.pth"):
        read_state_dict(tmp_path / "mine.pth")


def test_written_weights_are_read_back_with_their_metadata(tmp_path: Path):
    path, tensor = tmp_path / "net.safetensors", torch.rand(3, 4)
    write_state_dict(path, {"a": tensor.mT, "b": tensor.half()}, {"licence": "MIT"})
    state, metadata = read_state_dict(path)
    assert metadata.items() >= {"licence": "MIT"}.items()
    assert torch.equal(state["a"], tensor.mT) and torch.equal(state["b"], tensor.half())


def test_weights_that_cannot_be_written_leave_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"before")

    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OutputError, match=r"net\.safetensors.*No space"):
        write_state_dict(path, {"a": torch.zeros(1)})
    assert path.read_bytes() == b"before" and len([*tmp_path.iterdir()]) == 1
    with pytest.raises(OutputError, match="nowhere"):
        write_state_dict(tmp_path / "nowhere" / "net.safetensors", {})


# Strange files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "picture"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "picture"),
        (b"RIFF1234WEBPVP8 " + bytes(60), "picture"),
        (b"Not Found: see the release page\n", "text"),
        (b'{"error": "rate limit exceeded"}', "text"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"7z\xbc\xaf" + bytes(60), "archive"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_weights_file_is_called_what_it_is(
    tmp_path: Path, data: bytes, kind: str, suffix: str
):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data)
    with pytest.raises(CorruptWeightsError, match=kind):
        read_state_dict(path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_numbers_of_8_bits_become_float32(tmp_path: Path, dtype: torch.dtype, suffix: str):
    tensor = torch.tensor([0.5, -2.0, 448.0 if dtype == torch.float8_e4m3fn else 57344.0])
    path = tmp_path / f"net{suffix}"
    state = {"conv.weight": tensor.to(dtype)}
    (torch.save if suffix == ".pth" else save_file)(state, path)
    read = read_state_dict(path)[0]["conv.weight"]
    assert read.dtype == torch.float32 and torch.equal(read, tensor)
    scaled = {"conv.weight": tensor, "conv.scale_weight": tensor.clone()}
    save_file(scaled, tmp_path / "x.safetensors")
    with pytest.raises(WrongArchitectureError, match="scale_weight"):
        read_state_dict(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.uint8])
def test_integer_weights_are_refused_and_integer_buffers_are_not(
    tmp_path: Path, dtype: torch.dtype
):
    index = torch.ones(3, dtype=dtype)
    path = tmp_path / "net.safetensors"
    save_file({**STATE, "bn.num_batches_tracked": index}, path)
    assert torch.equal(read_state_dict(path)[0]["bn.num_batches_tracked"], index)
    for name in ("conv.weight", "conv.bias"):
        save_file({**STATE, name: index}, path)
        with pytest.raises(WrongArchitectureError, match=name):
            read_state_dict(path)


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(1).expand(10**9),
        torch.eye(3).to_sparse(),
        torch.empty(3, device="meta"),
        torch.zeros(3, dtype=torch.complex64),
        [1, 2],
        "text",
        None,
    ],
    ids=str,
)
def test_anything_but_plain_tensors_is_refused(tmp_path: Path, odd: object):
    path = tmp_path / "net.pth"
    torch.save({**STATE, "odd": odd}, path)
    with pytest.raises(WeightsError, match="odd"):
        read_state_dict(path)


def test_names_are_text(tmp_path: Path):
    torch.save({0: torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(CorruptWeightsError, match="'0'"):
        read_state_dict(tmp_path / "net.pth")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path):
    path = tmp_path / "net.pth"
    torch.save({"w": torch.zeros(4 << 20)}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as bomb:
        for entry in old.infolist():
            bomb.writestr(entry.filename, old.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptWeightsError, match="unpacks to"):
        read_state_dict(tmp_path / "bomb.pth")
    for read in (holds_network, read_pickled):  # as a detector's .pt
        with pytest.raises(CorruptWeightsError, match="unpacks to"):
            read(tmp_path / "bomb.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "bomb.pth").read_bytes()[:-30])
    with pytest.raises(CorruptWeightsError, match="cut"):
        read_state_dict(tmp_path / "cut.pth")


def test_tensors_that_share_their_bytes_fill_no_memory(tmp_path: Path):
    shared = torch.zeros(100_000, dtype=torch.float8_e4m3fn)
    torch.save({f"{n}.w": shared.view(100, 1000) for n in range(100)}, tmp_path / "net.pth")
    with pytest.raises(CorruptWeightsError, match="share"):
        read_state_dict(tmp_path / "net.pth")


def test_numbers_of_4_bits_are_refused(tmp_path: Path):
    head = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"\0")
    with pytest.raises(WeightsError, match="net"):  # or by a safetensors that does not know them
        read_state_dict(path)


def test_a_header_whose_length_looks_like_a_web_page_is_read(tmp_path: Path):
    head = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x3C20)  # b" <\0…"
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    assert read_state_dict(path)[0].keys() == {"a"}


def test_an_old_pytorch_reads_safetensors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.save(STATE, tmp_path / "net.pth")
    save_file(STATE, tmp_path / "net.safetensors")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")

    def load(*_: object, **__: object) -> None:
        raise AssertionError("it was unpickled")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(UnsafeWeightsError, match=r"2\.5\.1"):
        read_state_dict(tmp_path / "net.pth")
    assert same(read_state_dict(tmp_path / "net.safetensors")[0])


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path):
    path = tmp_path / "net.pth"
    torch.save(STATE, path)
    path.chmod(0)
    with pytest.raises(CorruptWeightsError, match="net"):
        read_state_dict(path)
