"""Remote files through fsspec, on its file system in memory."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from bfr.errors import ImageError, InputError, OutputError
from bfr.files.places import files_below, is_remote, lies_in, local_copy, to_path
from bfr.files.reports import check_report, write_text
from bfr.files.sources import find_sources, plan_targets
from bfr.files.whole import atomic_path, copy_file

pytest.importorskip("upath")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory with a photograph, one in a sub-folder, and what is none."""
    folder = to_path(f"memory://{uuid.uuid4().hex}")
    for name in ("b.jpg", "a/c.png", "a-z.png", "notes.txt", ".hidden.jpg"):
        with atomic_path(folder / name) as partial:
            partial.write_bytes(name.encode())
    yield folder
    remote = cast(Any, folder)
    remote.fs.rm(remote.path, recursive=True)


def test_a_word_without_scheme_is_a_local_path(tmp_path: Path):
    assert type(to_path("a/b.jpg")) is type(tmp_path) and not is_remote(to_path("a/b.jpg"))
    assert to_path(f"file://{tmp_path}/a.jpg") == tmp_path / "a.jpg"
    with pytest.raises(InputError, match="nowhere"):
        to_path("nowhere://a/b.jpg")


def test_a_remote_folder_is_searched_as_a_local_one(place: Path, tmp_path: Path):
    for file in files_below(place):
        local = tmp_path.joinpath(*file.relative_to(place).parts)
        local.parent.mkdir(exist_ok=True)
        local.write_bytes(file.read_bytes())
    there, here = find_sources([place]), find_sources([tmp_path])
    assert [source.name for source in there] == [source.name for source in here]
    assert [str(source.path) for source in there] == [f"{place}/{s.name}" for s in here]
    assert find_sources([place / "b.jpg"])[0].name == Path("b.jpg")
    with pytest.raises(InputError, match="absent"):
        find_sources([place / "absent"])


def test_results_are_planned_by_what_is_there(place: Path):
    sources, out = find_sources([place]), place / "results"
    copy_file(Path(__file__), out / "b.jpg")
    assert len(find_sources([place], out)) == len(sources) == 3
    with pytest.raises(InputError, match=r"b\.jpg"):
        plan_targets(sources, out, "refuse")
    missing = plan_targets(sources, out, "skip").values()
    assert [str(target) for target in missing] == [f"{out}/a/c.png", f"{out}/a-z.png"]
    with pytest.raises(InputError, match="original"):
        plan_targets(sources, place, "overwrite")
    assert lies_in(out / "b.jpg", place) and not lies_in(place, out)


def test_a_remote_file_appears_whole_or_not_at_all(place: Path):
    with pytest.raises(ZeroDivisionError), atomic_path(place / "b.jpg") as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError
    assert (place / "b.jpg").read_bytes() == b"b.jpg"
    with atomic_path(place / "new" / "b.jpg") as partial:
        partial.write_bytes(b"whole")
        assert not (place / "new" / "b.jpg").exists()
    assert (place / "new" / "b.jpg").read_bytes() == b"whole"


def test_what_cannot_be_sent_or_fetched_is_named(place: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ImageError, match="absent"), local_copy(place / "absent.jpg"):
        pytest.fail("there is none")
    with pytest.raises(ImageError) as caught, local_copy(place / "b.jpg") as copy:
        raise ImageError(f"{copy} is truncated")
    assert str(caught.value) == f"{place}/b.jpg is truncated"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(type(cast(Any, place).fs), "open", refuse)
    with pytest.raises(OutputError, match="not yours"), atomic_path(place / "x") as partial:
        partial.write_bytes(b"")


def test_a_remote_report_never_replaces_a_picture_or_an_input(place: Path):
    with pytest.raises(InputError):
        check_report(place / "b.jpg")
    with pytest.raises(InputError, match="read"):
        check_report(place / "notes.txt", [place / "notes.txt"])
    write_text(place / "report.json", "{}\n")
    assert (place / "report.json").read_bytes() == b"{}\n"
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(buffer := io.BytesIO(), "PNG")
    with atomic_path(place / "picture") as partial:
        partial.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="picture"):
        check_report(place / "picture")
