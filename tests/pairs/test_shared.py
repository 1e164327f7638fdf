"""Pairs folders that many machines write to: the same set as one machine makes, whatever dies."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bfr.errors import ImageError
from bfr.files.places import files_below, to_path
from bfr.files.sources import Source, find_sources
from bfr.files.whole import copy_file
from bfr.pairs import maker as making
from bfr.pairs.folder import read_pairs
from bfr.pairs.maker import Maker, place_of
from bfr.pairs.shared import SharedFolder, shared_folder
from bfr.pairs.writer import add_marks
from bfr.prior.prior import Prior
from tests.pair_sets import SETTINGS, alike, build, detector, files, photograph, restorer, stand_in
from tests.priors import tiny_prior


@pytest.fixture(autouse=True)
def stand(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs with one and two faces, one without, and two copies."""
    folder = tmp_path / "photos"
    photograph(folder / "a.png")
    photograph(folder / "b.jpg", faces=2)
    photograph(folder / "none.png", faces=0)
    (folder / "more").mkdir()
    shutil.copy(folder / "a.png", folder / "more" / "a.png")
    shutil.copy(folder / "b.jpg", folder / "more" / "c.jpg")
    return folder


@pytest.fixture
def store() -> Path:
    pytest.importorskip("upath", reason="universal-pathlib is not installed")
    return to_path(f"memory://{uuid.uuid4().hex}")


def maker(prior: Prior | None = None) -> Maker:
    return Maker(detector(), restorer(), prior or tiny_prior(), SETTINGS)


def make(folder: SharedFolder, sources: Sequence[Source], by: Maker | None = None) -> list[str]:
    """Works on what is missing, last photographs first; the names of those."""
    by = by or maker()
    undone = folder.undone(sources, by.made_with())
    for source in reversed(undone):
        by.put(source, folder.out)
    return [str(source.name) for source in undone]


def fetched(store: Path, folder: Path) -> Path:
    """A copy on this machine, as anyone makes one to train with."""
    for path in files_below(store):
        target = folder.joinpath(*path.relative_to(store).parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_the_same_set_as_on_one_machine(photos: Path, tmp_path: Path):
    alone = build(photos, tmp_path / "alone")
    sources = find_sources([photos])
    with shared_folder(tmp_path / "out") as folder:
        assert len(make(folder, sources)) == 5
        report = folder.finish(sources)
    assert alike(files(tmp_path / "alone"), files(tmp_path / "out"))
    assert report.pairs.pairs == read_pairs(tmp_path / "out").pairs and len(report.pairs.kept) == 3
    assert report.faceless == alone.faceless
    assert sorted(report.duplicates) == sorted(alone.duplicates) and len(report.duplicates) == 2
    before = files(tmp_path / "out")
    again = build(photos, tmp_path / "out")
    assert (again.searched, again.guessed, again.sampled) == (0, 0, 0), "one machine takes it up"
    assert files(tmp_path / "out") == before
    with shared_folder(tmp_path / "alone") as folder:
        assert not folder.undone(sources, maker().made_with()), "and a cluster what that made"


def test_in_an_object_store(photos: Path, tmp_path: Path, store: Path):
    build(photos, tmp_path / "alone")
    for path in files_below(photos):
        copy_file(path, (store / "in").joinpath(*path.relative_to(photos).parts))
    sources = find_sources([store / "in"])
    with shared_folder(store / "out") as folder:
        make(folder, sources[:2])  # and the run is killed here
    half = fetched(store / "out", tmp_path / "half")
    assert len(read_pairs(half).kept) == 3, "a pairs folder at any moment"
    with shared_folder(store / "out") as folder:
        assert make(folder, sources) == [str(source.name) for source in sources[2:]]
        folder.finish(sources)
    out = fetched(store / "out", tmp_path / "out")
    for name in ("manifest.jsonl", "sources.jsonl"):
        content = (out / name).read_text().replace(str(store / "in"), str(photos))
        (out / name).write_text(content)
    alone, out = files(tmp_path / "alone"), files(out)
    assert alone.keys() == out.keys()
    for name in alone:
        if name != "sources.jsonl":  # which has the times of files
            assert alike({name: alone[name]}, {name: out[name]}), name
    with shared_folder(store / "out") as folder:
        assert make(folder, sources) == []
        files_below(store / "out" / "target")[0].unlink()
        assert len(make(folder, sources)) == 1, "of which an image is missing"


def test_what_is_half_put_is_made_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sources = find_sources([photos])
    real, left = making.write_lines, 3

    def write_lines(*given):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        real(*given)

    monkeypatch.setattr(making, "write_lines", write_lines)
    with pytest.raises(KeyboardInterrupt), shared_folder(tmp_path / "out") as folder:
        make(folder, sources[:3])  # more/a.png: both parts, b.jpg: one, a.png: none
    monkeypatch.undo()
    stand_in(monkeypatch)
    with shared_folder(tmp_path / "out") as folder:
        undone = folder.undone(sources[:3], maker().made_with())
        assert [str(source.name) for source in undone] == ["a.png", "b.jpg"]
        make(folder, sources)
        folder.finish(sources)
    build(photos, tmp_path / "alone")
    assert alike(files(tmp_path / "alone"), files(tmp_path / "out"))


def test_what_changed_is_made_again_and_verdicts_stay(photos: Path, tmp_path: Path):
    sources, out = find_sources([photos])[:3], tmp_path / "out"
    with shared_folder(out) as folder:
        make(folder, sources)
        folder.finish(sources)
    add_marks(out, [replace(read_pairs(out).pairs[0], status="rejected", reason="by hand")])
    other = maker(tiny_prior(seed=5))
    with shared_folder(out) as folder:
        assert make(folder, sources, other) == ["b.jpg"], "a.png's pair is rejected"
        folder.finish(sources)
    assert [pair.status for pair in read_pairs(out).pairs] == ["rejected", "kept", "kept"]
    photograph(photos / "b.jpg", faces=1)
    with shared_folder(out) as folder:
        assert make(folder, sources, other) == ["b.jpg"]
        report = folder.finish(sources)
    assert report.removed == 2 and len(report.pairs.pairs) == 2
    assert len(list((out / "target").iterdir())) == 2, "the vanished face's image is deleted"


def test_a_photograph_that_fails_leaves_nothing(photos: Path, tmp_path: Path):
    (photos / "cut.png").write_bytes(b"\x89PNG")
    (source,) = (one for one in find_sources([photos]) if one.path.name == "cut.png")
    with shared_folder(tmp_path / "out") as folder:
        with pytest.raises(ImageError, match=r"cut\.png"):
            maker().put(source, folder.out)
        report = folder.finish([source])
    assert not report.pairs.pairs and place_of(source) not in folder.writer.photographs
