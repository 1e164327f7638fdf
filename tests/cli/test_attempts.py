"""Photographs one by one: what a worker elsewhere gets, and what outlives it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bfr.cli.attempts import Found, Job, anywhere, attempt
from bfr.cli.parts import Parts
from bfr.cli.report import earlier_entries, process
from bfr.files.sources import Source
from bfr.records import Face

FACE = Face((1.0, 2.0, 30.0, 40.0), 0.9, tuple((float(i), i + 0.5) for i in range(5)))


def test_options_and_jobs_for_another_folder_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("mine.pth").touch()
    Path("auto").touch()
    given = argparse.Namespace(
        restorer="mine.pth", detector="embedded", mask="auto", out=Path("out"), report=None
    )
    assert vars(anywhere(given)) == {
        "restorer": str(tmp_path / "mine.pth"),
        "detector": "embedded",
        "mask": "auto",
        "out": tmp_path / "out",
        "report": None,
    }
    job = Job(Source(Path("a.jpg"), Path("a.jpg")), Path("out/a.jpg")).anywhere()
    assert job.source.path == tmp_path / "a.jpg" and job.target == tmp_path / "out" / "a.jpg"
    assert job.source.name == Path("a.jpg")


def test_details_are_told_of_each_face():
    source = Source(Path("a.jpg"), Path("a.jpg"))
    done = attempt(Job(source), lambda job: Found((FACE, FACE), [{"x": 1}, {"x": 2}]), Path("b"))
    assert done.entry["path"] == "b" and [face["x"] for face in done.entry["faces"]] == [1, 2]


def test_entries_of_an_unfinished_report_are_kept_until_it_is_whole(tmp_path: Path):
    sources = [Source(tmp_path / name, Path(name)) for name in ("c.jpg", "a.jpg", "b.jpg")]
    report = tmp_path / "report.json"
    done = [attempt(Job(source), lambda job: Found((FACE,))) for source in sources]
    parts = Parts(report)
    for source, one in zip(sources[:2], done, strict=False):
        parts.write(source, one.entry)
    (parts.folder / "damaged.json").write_bytes(b"{")
    earlier = earlier_entries(report, sources[:2])
    assert earlier == {source: one.entry for source, one in zip(sources, done[:2], strict=False)}
    assert process(sources, [(sources[2], done[2])], lambda line: None, report, earlier) == 0
    everything = {source: one.entry for source, one in zip(sources, done, strict=True)}
    parts.remove()
    assert list(tmp_path.iterdir()) == [report]
    assert earlier_entries(report, sources) == everything
    assert list(earlier_entries(report, sources)) == sources, "the order of the photographs"


def test_entries_that_were_made_otherwise_are_not_read(tmp_path: Path):
    source = Source(tmp_path / "a.jpg", Path("a.jpg"))
    one = Parts(tmp_path / "report.json", {"score": 0.5})
    one.write(source, {"path": "a.jpg", "error": None})
    assert Parts(tmp_path / "report.json", {"score": 0.6}).read() == {}
    assert list(one.read()) == ["a.jpg"]
