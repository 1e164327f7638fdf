"""Many files in one run: what is worked on, where results go, what is told about failures."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bfr.cli.attempts import Attempt, Found, Job, attempt, count_faces
from bfr.cli.report import process
from bfr.errors import ImageError, InputError, OutputError
from bfr.files.sources import Source, find_sources, plan_targets, unread_files
from bfr.files.whole import check_writable, copy_file
from bfr.records import Face
from bfr.runtime.side_by_side import in_order

FACE = Face((1.0, 2.0, 30.004, 40.0), 0.91234, tuple((float(i), i + 0.5) for i in range(5)))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def names(sources: list[Source]) -> list[str]:
    return [source.name.as_posix() for source in sources]


def test_a_folder_is_searched_through(tmp_path: Path):
    wanted = ["a.jpg", "b/c.PNG", "b/d/e.tiff"]
    touch(*(tmp_path / name for name in [*wanted, "notes.txt", ".hidden.jpg", "b/._a.jpg"]))
    assert names(find_sources([tmp_path])) == wanted


def test_results_inside_a_searched_folder_are_no_sources(tmp_path: Path):
    touch(tmp_path / "a.jpg", tmp_path / "restored" / "a.jpg", tmp_path / "restored 2" / "b.jpg")
    assert names(find_sources([tmp_path], tmp_path / "restored")) == ["a.jpg", "restored 2/b.jpg"]


def test_results_may_go_above_the_sources(tmp_path: Path):
    touch(tmp_path / "scans" / "a.jpg")
    assert names(find_sources([tmp_path / "scans"], tmp_path)) == ["a.jpg"]


def test_each_file_is_done_once_and_in_order(tmp_path: Path):
    touch(tmp_path / "b.jpg", tmp_path / "a.jpg")
    paths = [tmp_path / "b.jpg", tmp_path, tmp_path / "b.jpg"]
    assert names(find_sources(paths)) == ["b.jpg", "a.jpg"]


def test_a_file_of_any_suffix_is_tried_when_named(tmp_path: Path):
    touch(tmp_path / "photo.heic")
    assert names(find_sources([tmp_path / "photo.heic"])) == ["photo.heic"]


def test_missing_paths_and_folders_without_images_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="absent"):
        find_sources([tmp_path / "absent.jpg"])
    with pytest.raises(InputError, match="got none"):
        find_sources([tmp_path])


def test_targets_keep_names_and_sub_folders(tmp_path: Path):
    touch(tmp_path / "in" / "a.jpg", tmp_path / "in" / "b" / "a.jpg")
    out = tmp_path / "out"
    targets = plan_targets(find_sources([tmp_path / "in"]), out, "refuse")
    assert list(targets.values()) == [out / "a.jpg", out / "b" / "a.jpg"]
    assert not out.exists(), "planning writes nothing"


@pytest.mark.parametrize("existing", ["refuse", "overwrite", "skip"])
def test_originals_are_never_replaced(tmp_path: Path, existing: str):
    touch(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="another folder"):
        plan_targets(find_sources([tmp_path / "a.jpg"]), tmp_path, existing)
    with pytest.raises(InputError, match="another folder"):
        find_sources([tmp_path], tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InputError, match="another folder"):
        plan_targets(find_sources([tmp_path / "a.jpg"]), tmp_path / "link", existing)


def test_two_results_of_one_name_are_refused(tmp_path: Path):
    touch(tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg")
    sources = find_sources([tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"])
    with pytest.raises(InputError, match=r"a\.jpg"):
        plan_targets(sources, tmp_path / "out", "overwrite")


def test_existing_results(tmp_path: Path):
    touch(*(tmp_path / name for name in ("in/a.jpg", "in/b.jpg", "out/a.jpg")))
    sources = find_sources([tmp_path / "in"])
    with pytest.raises(InputError, match="--existing overwrite"):
        plan_targets(sources, tmp_path / "out", "refuse")
    assert len(plan_targets(sources, tmp_path / "out", "overwrite")) == 2
    assert names(list(plan_targets(sources, tmp_path / "out", "skip"))) == ["b.jpg"]


def test_writable_folders_are_made_and_others_told(tmp_path: Path):
    check_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    touch(tmp_path / "file")
    with pytest.raises(OutputError, match="file"):
        check_writable(tmp_path / "file")
    with pytest.raises(OutputError):
        check_writable(tmp_path / "file" / "folder")


def test_a_copy_has_the_same_bytes(tmp_path: Path):
    touch(tmp_path / "a.jpg")
    copy_file(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert (tmp_path / "b.jpg").read_bytes() == b"a.jpg"
    assert len(list(tmp_path.iterdir())) == 2


def test_faces_are_counted_in_words():
    assert [count_faces((FACE,) * n) for n in (0, 1, 2)] == ["no faces", "1 face", "2 faces"]


def process_all(
    sources: list[Source],
    work: Callable[[Source], tuple[Face, ...]],
    say: Callable[[str], None],
    report: Path,
    at_once: int = 1,
    **options: Any,
) -> int:
    """`process` of what work on each source finds."""

    def attempted(source: Source) -> Attempt:
        return attempt(Job(source), lambda job: Found(work(job.source)))

    return process(sources, in_order(sources, attempted, at_once), say, report, **options)


def test_failures_are_told_and_the_rest_is_done(tmp_path: Path):
    def work(source: Source) -> tuple[Face, ...]:
        if source.path.stem == "b":
            raise ImageError("b is truncated")
        if source.path.stem == "c":
            raise ZeroDivisionError("a bug")
        return (FACE,)

    sources = [Source(Path(f"{name}.jpg"), Path(f"{name}.jpg")) for name in "abcd"]
    lines: list[str] = []
    assert process_all(sources, work, lines.append, tmp_path / "report.json") == 2
    assert [line.split(":")[0] for line in lines] == [
        f"[{i + 1}/4] {'abcd'[i]}.jpg" for i in range(4)
    ]
    assert "b is truncated" in lines[1] and "ZeroDivisionError" in lines[2]
    assert "1 face" in lines[3]
    images = json.loads((tmp_path / "report.json").read_text())["images"]
    assert [entry["path"] for entry in images] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [set(entry) for entry in images] == [{"path", "faces", "seconds", "error"}] * 4
    assert images[0]["error"] is None and images[0]["seconds"] >= 0
    assert images[0]["faces"] == [
        {
            "box": [1.0, 2.0, 30.0, 40.0],
            "score": 0.9123,
            "landmarks": [[float(i), i + 0.5] for i in range(5)],
        }
    ]
    assert images[1]["faces"] == [] and "truncated" in images[1]["error"]


def test_an_interrupted_run_leaves_its_report(tmp_path: Path):
    def work(source: Source) -> tuple[Face, ...]:
        if source.path.stem == "b":
            raise KeyboardInterrupt
        return ()

    sources = [Source(Path(name), Path(name)) for name in "abc"]
    with pytest.raises(KeyboardInterrupt):
        process_all(sources, work, lambda line: None, tmp_path / "report.json")
    images = json.loads((tmp_path / "report.json").read_text())["images"]
    assert [entry["path"] for entry in images] == ["a"]


def test_a_report_that_cannot_be_written_is_told_before_the_work(tmp_path: Path):
    def work(source: Source) -> tuple[Face, ...]:
        pytest.fail("worked")

    with pytest.raises(OutputError):
        process_all([Source(Path("a"), Path("a"))], work, print, tmp_path / "absent" / "a.json")


def test_images_side_by_side_are_reported_in_their_order(tmp_path: Path):
    """The first waits until the second is done."""
    second = threading.Event()

    def work(source: Source) -> tuple[Face, ...]:
        if source.path.stem == "a":
            assert second.wait(10)
        second.set()
        if source.path.stem == "b":
            raise ImageError("b is truncated")
        return (FACE,)

    sources = [Source(Path(f"{name}.jpg"), Path(f"{name}.jpg")) for name in "abcd"]
    lines, shown = [], []
    report = tmp_path / "report.json"
    failed = process_all(
        sources, work, lines.append, report, show=lambda source, _: shown.append(source), at_once=2
    )
    assert failed == 1 and [source.path.stem for source in shown] == ["a", "c", "d"]
    assert [line[1] for line in lines] == ["1", "2", "3", "4"]
    images = json.loads(report.read_text())["images"]
    assert [entry["path"] for entry in images] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be closed like this there")
def test_folders_that_are_not_searched_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("open", "closed", "out"):
        (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "done").symlink_to(tmp_path / "in" / "out", target_is_directory=True)
    listed = os.scandir

    def refuse(place: Any) -> Any:  # root may look into every folder
        if Path(place).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", refuse)
    left = unread_files([tmp_path / "in"], tmp_path / "in" / "out")
    assert sorted(path.name for path in left) == ["closed", "loop"]
