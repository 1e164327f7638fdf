"""Progress in figures and words."""

from __future__ import annotations

import pytest

from bfr.runtime import progress
from bfr.runtime.progress import SCALE, Progress, in_words, within


def test_durations_in_words():
    said = {0: "0 s", 89: "89 s", 91: "2 min", 60 * 89: "89 min", 60 * 200: "3 h 20 min"}
    assert {seconds: in_words(seconds) for seconds in said} == said


def test_stages_share_one_scale_and_lines_are_few(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    telling = Progress(lines.append, lambda done, total, _: steps.append((done, total)))
    telling.begin("photographs searched", 2, (0, 100))
    for done in (1, 2):
        telling.tell(done)
    telling.begin("targets sampled", 10, (100, 1000))
    for call in range(1, 101):
        now += 1.5
        telling.tell(call / 10)
    assert steps[:3] == [(50, SCALE), (100, SCALE), (109, SCALE)] and steps[-1] == (SCALE, SCALE)
    assert lines[0] == "2 of 2 photographs searched, 0 s"
    assert lines[1] == "0 of 10 targets sampled, about 2 min left"
    assert lines[-1] == "10 of 10 targets sampled, 2 min"
    assert 12 < len(lines) < 20


def test_a_part_reports_its_place_in_the_whole():
    steps: list[tuple[int, int]] = []
    part = within(lambda done, total, _: steps.append((done, total)), 10, 20, 40)
    for done in (0, 1, 2, 4):
        part(done, 4, None)
    part(0, 0, None)  # of a part without work
    assert steps == [(10, 40), (12, 40), (15, 40), (20, 40), (10, 40)]
    within(None, 0, 1, 1)(1, 1, None)


def test_a_part_of_a_stage_reports_its_place_in_all_stages():
    steps: list[int] = []
    telling = Progress(None, lambda done, total, _: steps.append(done))
    telling.begin("targets sampled", 10, (0, SCALE))
    part = telling.within(4, 8)
    for call in range(3):
        part(call, 2, None)
    assert steps == [400, 600, 800]


def test_a_stage_of_nothing_can_be_done():
    steps: list[int] = []
    telling = Progress(None, lambda done, total, preview: steps.append(done))
    telling.begin("things", 0, (200, SCALE))
    telling.tell(0)
    assert steps == [200]
