"""Names, seeds and checksums of pairs: they must never change, or sets would be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bfr.errors import InputError
from bfr.files.checksums import network_sha256
from bfr.pairs.folder import pair_name, pair_seed, read_lists, read_pairs, same_parameters
from bfr.pairs.pair import Pair, Photograph
from bfr.pairs.writer import PairWriter

SHA = "0123456789abcdef" * 4
ROWS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def pair(name: str, **changes) -> Pair:
    facts = {"source": "a.jpg", "source_sha256": SHA, "face": 0, "score": 0.9}
    return Pair(**{**facts, "name": name, "image_to_crop": ROWS, "landmarks": [], **changes})


def test_names_are_plain_and_follow_from_the_content():
    assert pair_name("/scans/Großmutter 1931 (2).tif", SHA, 3) == "Gromutter-1931-2-0123456789-3"
    assert pair_name("é" * 99 + ".jpg", SHA, 0) == "e" * 40 + "-0123456789-0"
    assert pair_name("写真.png", SHA, 0) == "photo-0123456789-0"
    assert pair_name("..hidden.png", SHA, 0) == "hidden-0123456789-0"


def test_seeds_are_fixed_and_differ():
    assert pair_seed(0, SHA, 0) == 148558396751415
    seeds = {pair_seed(b, s * 64, f) for b in range(4) for s in "abcd" for f in range(4)}
    assert len(seeds) == 64 and all(0 <= seed < 2**48 for seed in seeds)


def test_a_networks_checksum_knows_values_names_and_types():
    network = nn.Linear(2, 2)
    first = network_sha256(network)
    assert network_sha256(network) == first
    assert network_sha256(nn.Sequential(network)) != first
    other = nn.Linear(2, 2)
    other.load_state_dict(network.state_dict())
    assert network_sha256(other) == first
    with torch.no_grad():
        other.bias[1] += 1e-3
    assert network_sha256(other) != first
    assert network_sha256(network.bfloat16()) != first


def test_parameters_are_the_same_whatever_networks_are_called():
    stored = {"restorer": {"name": "SwinIR", "sha256": "1"}, "sizes": [1, 2]}
    assert same_parameters(stored, {"restorer": {"name": "mine", "sha256": "1"}, "sizes": (1, 2)})
    assert not same_parameters(stored, {"restorer": {"sha256": "2"}, "sizes": (1, 2)})
    assert not same_parameters(stored, {**stored, "more": 0})
    assert not same_parameters({}, stored)


def test_what_is_written_is_read(tmp_path: Path):
    photograph = Photograph("scans/Größe.jpg", 7, 8, SHA, 2, (3, 4), {"size": 512})
    pairs = [pair("b", source="b.jpg"), pair("a", face=10), pair("c", face=9, flags=["grainy"])]
    with PairWriter(tmp_path) as writer:
        writer.put(pairs)
        writer.put_photograph(photograph)
        writer.put([pair("gone")])
        writer.drop(pair("gone"))
        assert not (tmp_path / "manifest.jsonl").read_bytes(), "merged at the end"
        assert [each.name for each in read_pairs(tmp_path).pairs] == ["c", "a", "b"]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "manifest.jsonl",
        "sources.jsonl",
    ]
    assert [each.name for each in read_pairs(tmp_path).pairs] == ["c", "a", "b"]
    assert read_pairs(tmp_path).pairs[0].flags == ["grainy"]
    (known,) = read_lists(tmp_path)[1].values()
    assert known.path == photograph.path and list(known.size) == [3, 4]


def test_a_file_name_that_is_no_text_is_kept(tmp_path: Path):
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    with PairWriter(tmp_path) as writer:
        writer.put([pair("a", source=name)])
    assert read_pairs(tmp_path).pairs[0].source == name


def test_the_last_line_may_lack_its_end(tmp_path: Path):
    with PairWriter(tmp_path) as writer:
        writer.put([pair("a"), pair("b")])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().rstrip())
    assert len(read_pairs(tmp_path).pairs) == 2
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert len(read_pairs(tmp_path).pairs) == 1


def test_lines_of_another_version_are_told(tmp_path: Path):
    with PairWriter(tmp_path) as writer:
        writer.put([pair("a")])
    manifest = tmp_path / "manifest.jsonl"
    line = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**line, "mood": "glad"}) + "\n")
    with pytest.raises(InputError, match=r"Line 1 of .*mood"):
        read_pairs(tmp_path)
