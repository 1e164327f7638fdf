"""Mutated and invented files: a result or a named error, whatever comes.

The examples are the same in every run and no database of failures is kept, so that what fails here
fails everywhere. Together they take some seconds; BFR_FUZZ=20 tries twenty times as many.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from bfr.errors import FaceRestorationError
from bfr.files.formats import FORMATS
from bfr.files.photos import read_photo
from bfr.files.weights import read_state_dict
from bfr.finetune.run_folder import RunFolder
from bfr.pairs.folder import KINDS, read_image, read_pairs
from bfr.pairs.pair import Photograph
from bfr.pairs.review import mark_pairs
from bfr.pairs.writer import PairWriter, write_pair
from bfr.prior.load import load_prior
from bfr.restore.load import load_restorer

TIMES = int(os.environ.get("BFR_FUZZ") or 1)


def fuzz(examples: int) -> Any:
    return settings(
        max_examples=examples * TIMES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "double", "zero"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def edited(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes after some damage."""
    for kind, place, new in changes:
        at = int(place * len(data))
        if kind == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "insert":
            data = data[:at] + new + data[at:]
        elif kind == "double":
            data = data[:at] + data[at : at + 64] + data[at:]
        else:
            data = data[:at] + bytes(16) + data[at + 16 :]
    return data


# Photographs -------------------------------------------------------------------------------------


@cache
def pictures() -> Mapping[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
    images = {
        **{f"a{s}": Image.fromarray(noise[..., :3]) for s in (".png", ".jpg", ".webp", ".bmp")},
        **{f"a{s}": Image.fromarray(noise[..., :3]) for s in (".tif", ".avif", ".jp2")},
        "alpha.png": Image.fromarray(noise),
        "palette.png": Image.fromarray(noise[..., :3]).quantize(16),
        "grey16.png": Image.fromarray(noise[..., 0].astype(np.uint16) * 257),
        "cmyk.jpg": Image.fromarray(noise[..., :3]).convert("CMYK"),
    }
    found = {}
    for name, image in images.items():
        buffer = io.BytesIO()
        image.save(buffer, FORMATS[Path(name).suffix])
        found[name] = buffer.getvalue()
    return found


@fuzz(200)
@given(st.sampled_from(sorted(pictures())), edits)
def test_a_damaged_photograph_is_read_or_named(name: str, changes: list[Any]):
    with file_of(edited(pictures()[name], changes), name) as path:
        try:
            photo = read_photo(path)
        except FaceRestorationError as error:
            assert path.name in str(error)
            return
        assert photo.pixels.shape[:2] == (1, 3) and torch.isfinite(photo.pixels).all()
        assert photo.pixels.min() >= 0 and photo.pixels.max() <= 1


# Weights -----------------------------------------------------------------------------------------


@cache
def weights() -> Mapping[str, bytes]:
    state = {"a.weight": torch.ones(3, 2), "b.bias": torch.zeros(4).half()}
    buffer, old = io.BytesIO(), io.BytesIO()
    torch.save({"params": state}, buffer)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    safe = save(state, {"architecture": "UNet", "size": "64"})
    return {"a.safetensors": safe, "a.pth": buffer.getvalue(), "old.pth": old.getvalue()}


@fuzz(150)
@given(st.sampled_from(sorted(weights())), edits)
def test_damaged_weights_are_read_or_named(name: str, changes: list[Any]):
    with file_of(edited(weights()[name], changes), name) as path:
        try:
            state, _ = read_state_dict(path)
        except FaceRestorationError:
            return
        assert all(torch.isfinite(tensor).all() for tensor in state.values())


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**13) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "F8_E4M3", "BOOL", "I64", "X"]),
        "shape": st.lists(st.integers(0, 2**40) | st.just(2), max_size=4),
        "data_offsets": st.lists(st.integers(0, 200), min_size=2, max_size=2),
    }
)


@fuzz(150)
@given(st.dictionaries(st.text(max_size=12), entry | values, max_size=4), st.binary(max_size=200))
def test_an_invented_header_is_read_or_named(header: dict[str, Any], data: bytes):
    text = json.dumps(header).encode()
    with file_of(struct.pack("<Q", len(text)) + text + data, "a.safetensors") as path:
        try:
            read_state_dict(path)
        except FaceRestorationError:
            return


@fuzz(100)
@given(
    st.fixed_dictionaries(
        {"architecture": st.sampled_from(["UNet", "NAFNet", "x"])},
        optional={
            "config": values.map(json.dumps)
            | st.fixed_dictionaries(
                {
                    "model_channels": st.integers(0, 10**7),
                    "channels": st.lists(st.integers(0, 10**7), max_size=5),
                    "blocks": st.lists(st.integers(0, 10**7), max_size=5),
                    "attention": st.lists(st.booleans(), max_size=5),
                }
            ).map(json.dumps),
            "size": st.sampled_from(["64", "0", "9" * 5000, "x", "-1"]),
            "schedule": values.map(json.dumps)
            | st.builds(lambda n: json.dumps({"steps": n}), st.integers(-1, 10**13)),
            "prediction": st.text(max_size=10),
            "variance": st.text(max_size=10),
            "highest_step": st.integers(-1, 10**13).map(str),
            "clip": st.sampled_from(["true", "[" * 2000, ""]),
        },
    )
)
def test_invented_metadata_is_refused_by_name(metadata: dict[str, str]):
    data = save({"conv.weight": torch.zeros(2, 2)}, metadata)
    with file_of(data, "a.safetensors") as path:
        for load in (load_prior, load_restorer):
            with pytest.raises(FaceRestorationError):
                load(path)


# Pairs folders -----------------------------------------------------------------------------------


@cache
def lists() -> Mapping[str, bytes]:
    """The lists of a small set, and what a running process has written of it."""
    face = torch.full((1, 3, 16, 16), 0.5)
    photo = Photograph("a.png", bytes=1, modified=1, sha256="0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with PairWriter(folder) as writer:
            for pair in "abc":
                write_pair(writer, pair, face, face, face)
            writer.put_photograph(photo)
        mark_pairs(folder, reject=["a"])
        found = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    return {**found, "manifest.part0.jsonl": found["manifest.jsonl"]}


def manifest() -> bytes:
    return lists()["manifest.jsonl"]


def use(folder: Path) -> None:
    """Everything that believes a manifest, but for the networks."""
    pairs = read_pairs(folder)
    mark_pairs(folder, reject=[pair.name for pair in pairs.pairs])
    with PairWriter(folder) as writer:
        for pair in list(writer.pairs.values()):
            writer.drop(pair)


@contextmanager
def pairs_folder(lines: bytes, name: str = "manifest.jsonl") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder, "set")
        inside.mkdir()
        (inside / "manifest.jsonl").write_bytes(manifest())
        (inside / name).write_bytes(lines)
        Path(folder, "victim.png").write_bytes(b"mine")
        yield inside
        assert Path(folder, "victim.png").read_bytes() == b"mine"
        assert {path.name for path in Path(folder).iterdir()} == {"set", "victim.png"}


@fuzz(150)
@given(st.sampled_from(sorted(lists())), edits)
def test_a_damaged_list_is_read_or_named(name: str, changes: list[Any]):
    with pairs_folder(edited(lists()[name], changes), name) as folder:
        try:
            use(folder)
        except FaceRestorationError:
            return


FIELDS = sorted(json.loads(manifest().splitlines()[0]))
names = st.sampled_from(["../victim", "/tmp/x", "..", "a/../../victim", "C:\\x", "a\0"])


@fuzz(150)
@given(st.dictionaries(st.sampled_from([*FIELDS, "removed", "x"]), values | names, max_size=3))
def test_an_invented_line_is_read_or_named(changes: dict[str, Any]):
    line = {**json.loads(manifest().splitlines()[0]), **changes}
    with pairs_folder(json.dumps(line).encode() + b"\n") as folder:
        try:
            use(folder)
            for pair in read_pairs(folder).pairs:
                for kind in KINDS:
                    read_image(folder, kind, pair)
        except FaceRestorationError:
            return


# Runs --------------------------------------------------------------------------------------------


def identity() -> dict[str, Any]:
    return {"base": "0", "settings": {"lr": 0.1, "seed": 0}}


@cache
def run_files() -> Mapping[str, bytes]:
    state = {"run": identity(), "step": 2, "validations": [{"step": 0}], "diverged": ""}
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name))
        run.save({**state, "modules": {"network": {"a": torch.ones(9)}}, "best": {}})
        run.add({"step": 1, "loss": 0.5})
        run.add({"step": 2, "gain": 0.1})
        return {file: Path(name, file).read_bytes() for file in ("state.pt", "log.jsonl")}


def resume(files: Mapping[str, bytes]) -> None:
    """Everything that believes a run's folder, but for the networks."""
    with tempfile.TemporaryDirectory() as name:
        for file, data in files.items():
            Path(name, file).write_bytes(data)
        run = RunFolder(Path(name))
        try:
            state = run.open(identity(), None, lambda: None)
        except FaceRestorationError:
            return
        assert state is not None and state["step"] == 2 and state["run"] == identity()
        run.rewind(2, 2)
        assert all(isinstance(line["step"], int) for line in run.lines())


@fuzz(100)
@given(st.sampled_from(sorted(run_files())), edits)
def test_a_damaged_run_is_resumed_or_named(name: str, changes: list[Any]):
    resume({**run_files(), name: edited(run_files()[name], changes)})


@fuzz(100)
@given(st.lists(values | st.fixed_dictionaries({"step": values, "gain": values}), max_size=4))
def test_an_invented_log_is_read(lines: list[Any]):
    log = "\n".join(map(json.dumps, lines))
    resume({**run_files(), "log.jsonl": log.encode()})


@fuzz(60)
@given(
    st.dictionaries(
        st.sampled_from(["run", "step", "validations", "modules", "best", "diverged", "x"]),
        values | st.fixed_dictionaries({"base": values, "settings": values}),
        min_size=1,
        max_size=3,
    )
)
def test_an_invented_state_is_resumed_or_named(changes: dict[str, Any]):
    state = {"run": identity(), "step": 2, "validations": [], "diverged": "", "modules": {}}
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name))
        run.save({**state, "best": {}, **changes})
        try:
            run.open(identity(), None, lambda: None)
        except FaceRestorationError:
            return
