"""Files written whole or not at all."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from bfr.errors import OutputError
from bfr.files.whole import atomic_path, prepare_folders, remove_leftovers
from tests.forks import begin


def write_and_die(path: Path) -> None:
    with atomic_path(path) as partial:
        partial.write_bytes(b"half")
        os._exit(9)


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as partial:
        partial.write_text("after")
        raise ZeroDivisionError
    with pytest.raises(OutputError), atomic_path(tmp_path / "gone" / "file") as partial:
        partial.write_text("after")
    assert path.read_text() == "before" and not parts(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_what_somebody_made_meanwhile_can_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    def refuse(*_: object) -> None:
        raise PermissionError("this disk has no hard links")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for place, theirs in ((tmp_path / "file", True), (tmp_path / "free", False)):
        told = pytest.raises(OutputError, match="meanwhile") if theirs else nullcontext()
        with told, atomic_path(place, overwrite=False) as partial:
            partial.write_text("ours")
            if theirs:
                place.write_text("theirs")
        assert place.read_text() == ("theirs" if theirs else "ours")
    with atomic_path(tmp_path / "file") as partial:
        partial.write_text("ours")
    assert (tmp_path / "file").read_text() == "ours" and not parts(tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_a_name_that_cannot_be_is_named(tmp_path: Path, name: str):
    with pytest.raises(OutputError), atomic_path(tmp_path / name) as partial:
        partial.write_text("after")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path):
    out = tmp_path / "out" / "below"
    out.mkdir(parents=True)
    process = begin(write_and_die, out / "file")
    process.join()
    assert process.exitcode == 9
    (out / ".mine.part").write_text("a user's")
    assert len(parts(out)) == 2
    with atomic_path(out / "other") as partial:
        partial.write_text("being written")
        prepare_folders(out.parent, [out / "file"])
        assert partial.exists()
    assert parts(out) == [".mine.part"] and (out / "other").read_text() == "being written"


def test_names_that_the_disk_takes_for_one_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = [tmp_path / "A" / "x.jpg", tmp_path / "a" / "X.jpg"]
    if (tmp_path / "B").mkdir() or not (tmp_path / "b").exists():
        prepare_folders(tmp_path, files)
        monkeypatch.setattr("bfr.files.whole._folds_case", lambda *_: True)
    with pytest.raises(OutputError, match="are one on this disk"):
        prepare_folders(tmp_path, files)
    prepare_folders(tmp_path, [files[0], files[0].with_name("y.jpg")])


def test_what_is_left_by_an_earlier_version_or_another_machine_waits_a_day(tmp_path: Path):
    old, new = tmp_path / f".{'0' * 32}.part", tmp_path / f".01234567-1-{'0' * 32}.part"
    for path in (old, new):
        path.touch()
    remove_leftovers(tmp_path)
    assert len(parts(tmp_path)) == 2
    os.utime(old, (0, 0))
    remove_leftovers(tmp_path)
    assert parts(tmp_path) == [new.name]
    remove_leftovers(tmp_path, locked=True)
    assert not parts(tmp_path)
    remove_leftovers(tmp_path / "nowhere")
