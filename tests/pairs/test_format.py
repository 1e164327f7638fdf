"""A pairs folder may come from a stranger: nothing it says is believed unchecked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bfr.errors import BusyError, FaceRestorationError, ImageError, InputError
from bfr.files.photos import Photo, read_photo
from bfr.files.writing import write_photo
from bfr.pairs.folder import KINDS, REJECTED, image_path, read_image, read_pairs
from bfr.pairs.pair import Pair
from bfr.pairs.review import mark_pairs
from bfr.pairs.writer import PairWriter, add_marks, write_pair
from tests.finetune_sets import pairs_folder

FACE = torch.full((1, 3, 16, 16), 0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pairs_folder(tmp_path / "set", count=3)
    return tmp_path / "set"


def change(folder: Path, **changes: Any) -> None:
    """Writes something else into the second line of the manifest."""
    path = folder / "manifest.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), **changes})
    path.write_text("\n".join(lines) + "\n")


def nested(levels: int) -> list[Any]:
    """Lists in each other."""
    return [nested(levels - 1)] if levels else []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../x",
            "/tmp/x",
            "a/b",
            "a\\b",
            "C:x",
            "..",
            ".",
            "",
            " a",
            ".hidden",
            "a\0b",
            "CON",
            "nul.x",
        ),
        *("a\nb", "x" * 300, "ä" * 200, "\ud800", None, 7, ["a"], {"a": 1}, True),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_when_the_list_is_read(folder: Path, name: object):
    change(folder, name=name)
    with pytest.raises(InputError, match=r"Line 2 of .*name"):
        read_pairs(folder)
    with pytest.raises(InputError, match=r"Line 2 of .*name"), PairWriter(folder):
        pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("source", 3), ("source_sha256", None), ("face", -1), ("face", 1.5), ("face", True)),
        *(("image_to_crop", "x"), ("image_to_crop", [[1, "a"]]), ("landmarks", [1, 2])),
        *(("image_to_crop", []), ("image_to_crop", [[1, 2], [3]]), ("crop", {"a": nested(400)})),
        *(("score", float("nan")), ("score", float("inf")), ("score", "1"), ("crop", [])),
        *(("guess", 1), ("target", None), ("sha256", {"lq": 1}), ("sha256", []), ("flags", "x")),
        *(("flags", [1]), ("measures", {"niqe": "x"}), ("measures", []), ("status", "maybe")),
        *(("reason", 0), ("removed", False), ("removed", 1), ("mood", "glad")),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_line(folder: Path, field: str, value: object):
    change(folder, **{field: value})
    with pytest.raises(InputError, match=rf"Line 2 of .*({field}|NaN|Infinity|unknown)"):
        read_pairs(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "[]", "7", "nul", "\xff", "9" * 9000]
)
def test_a_line_that_is_no_object_is_named(folder: Path, text: str):
    path = folder / "manifest.jsonl"
    path.write_bytes(text.encode("latin-1") + b"\n" + path.read_bytes())
    with pytest.raises(InputError, match="Line 1 of"):
        read_pairs(folder)


@pytest.mark.parametrize("what", [*KINDS, "manifest.jsonl", "marks.jsonl", "sources.jsonl"])
def test_links_are_refused_when_the_list_is_read(folder: Path, tmp_path: Path, what: str):
    elsewhere = tmp_path / "elsewhere"
    if (folder / what).exists():
        (folder / what).rename(elsewhere)
    else:
        elsewhere.write_text("")
    (folder / what).symlink_to(elsewhere)
    with pytest.raises(InputError, match=what):
        read_pairs(folder)
    with pytest.raises(InputError, match=what), PairWriter(folder):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
@pytest.mark.parametrize("what", ["manifest.jsonl", "marks.jsonl", "target"])
def test_pipes_are_refused_instead_of_waited_for(folder: Path, what: str):
    if (folder / what).is_dir():
        shutil.rmtree(folder / what)
    (folder / what).unlink(missing_ok=True)
    os.mkfifo(folder / what)
    with pytest.raises(InputError, match="pipe"):
        read_pairs(folder)


def test_an_image_that_is_a_link_is_not_read_and_not_written_through(folder: Path, tmp_path: Path):
    pair = read_pairs(folder).pairs[0]
    path, elsewhere = image_path(folder, "target", pair.name), tmp_path / "victim.png"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(ImageError, match="link"):
        read_image(folder, "target", pair)
    with PairWriter(folder) as writer:
        assert not writer.has_image(pair, "target")
        writer.write_image(pair, "target", FACE)
        writer.drop(pair)
    assert elsewhere.read_bytes() == before


def test_an_exchanged_image_is_not_used_and_not_overwritten(folder: Path):
    pair = read_pairs(folder).pairs[0]
    path = image_path(folder, "target", pair.name)
    write_photo(path, Photo(torch.zeros(1, 3, 32, 32)))
    with pytest.raises(ImageError, match=pair.sha256["target"][:8]):
        read_image(folder, "target", pair)
    with PairWriter(folder) as writer, pytest.raises(ImageError, match="target"):
        writer.has_image(pair, "target")
    path.write_bytes(path.read_bytes()[:60])
    with PairWriter(folder) as writer:
        assert not writer.has_image(pair, "target"), "a truncated one is made again"


def test_an_image_that_is_not_square_is_refused(folder: Path):
    pair = read_pairs(folder).pairs[0]
    write_photo(image_path(folder, "lq", pair.name), Photo(torch.zeros(1, 3, 32, 16)))
    with pytest.raises(ImageError, match="16×32"):
        read_image(folder, "lq", replace(pair, sha256={}))


def test_parts_of_others_are_left_alone(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "letters.part1.jsonl").write_text("mine")
    (folder / "manifest.partly.jsonl").write_text("mine")
    with PairWriter(folder) as writer:
        write_pair(writer, "a", FACE, FACE, FACE)
    assert sorted(path.name for path in folder.glob("*part*")) == [
        "letters.part1.jsonl",
        "manifest.partly.jsonl",
    ]


def test_a_written_pair_is_complete_and_reads_back(tmp_path: Path):
    with PairWriter(tmp_path) as writer:
        written = write_pair(writer, "a", FACE, FACE / 2, FACE / 5, source="album.jpg")
    (read,) = read_pairs(tmp_path).kept
    assert read.complete and read.source == "album.jpg" and read.sha256 == written.sha256
    assert (read_image(tmp_path, "target", read) - 0.1).abs().max() < 0.5 / 255
    with pytest.raises((TypeError, FaceRestorationError)), PairWriter(tmp_path) as writer:
        write_pair(writer, "b", FACE, FACE, FACE, mood="glad")


# Verdicts and a second writer --------------------------------------------------------------------


def test_a_second_writer_is_refused(folder: Path):
    with PairWriter(folder):
        with pytest.raises(BusyError, match="set"), PairWriter(folder):
            pass
        assert len(read_pairs(folder).pairs) == 3, "readers need no lock"


def test_rejections_made_while_the_set_is_written_stay(folder: Path):
    first, _, third = read_pairs(folder).pairs
    with PairWriter(folder) as writer:
        mark_pairs(folder, reject=["1", "2"])
        # as `targets` does at its end: what it knows replaces the line
        writer.put([replace(pair, status="kept", reason="", flags=()) for pair in (first, third)])
        writer.sync()
        mark_pairs(folder, reject=["3"], keep=["2"])
    assert [pair.status for pair in read_pairs(folder).pairs] == [REJECTED, "kept", REJECTED]
    with PairWriter(folder):
        pass
    assert [pair.status for pair in read_pairs(folder).pairs] == [REJECTED, "kept", REJECTED]


@pytest.mark.parametrize(
    ("mark", "stays"),
    [
        (lambda pair: replace(pair, status=REJECTED, reason="by hand"), True),
        (lambda pair: replace(pair, status=REJECTED, reason="flagged: grainy"), False),
    ],
)
def test_a_new_target_gets_a_new_chance_unless_it_was_rejected_by_hand(
    folder: Path, mark: Callable[[Pair], Pair], stays: bool
):
    pair = read_pairs(folder).pairs[0]
    add_marks(folder, [mark(pair)])
    assert read_pairs(folder).pairs[0].status == REJECTED
    with PairWriter(folder) as writer:
        writer.put([writer.write_image(pair, "target", FACE)])
    assert (read_pairs(folder).pairs[0].status == REJECTED) == stays


def test_marks_of_pairs_that_are_gone_do_no_harm(folder: Path):
    pair = read_pairs(folder).pairs[0]
    add_marks(folder, [replace(pair, name="gone")])
    assert len(read_pairs(folder).pairs) == 3
    (folder / "marks.jsonl").write_text(json.dumps({**asdict(pair)}) + "\n" + "{}\n")
    with pytest.raises(InputError, match=r"Line 1 of .*marks"):
        read_pairs(folder)


def test_what_a_full_disk_cuts_off_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert read_photo(image_path(folder, "lq", read_pairs(folder).pairs[0].name))
    before = read_pairs(folder).pairs

    class Full:
        def __init__(self, file: Any):
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def tell(self) -> int:
            return self.file.tell()

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise OSError(28, "No space left on device")

    opened = Path.open

    def open_full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = opened(path, mode, *args, **options)
        return Full(file) if mode == "ab" else file

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(FaceRestorationError, match="No space"):
        add_marks(folder, before)
    monkeypatch.undo()
    assert read_pairs(folder).pairs == before
    assert (folder / "marks.jsonl").read_bytes() == b""
