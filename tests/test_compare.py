"""The comparison of two commits, without measuring anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import compare


def test_medians_of_what_all_rounds_measured_and_their_ratios():
    rounds = [{"a": (second, 8.0), "b": (1.0, 1.0)} for second in (1.0, 9.0, 2.0)]
    del rounds[1]["b"]
    found = compare.medians(rounds)
    assert found == {"a": (2.0, 8.0)}
    lines = list(compare.table(found, {"a": (1.0, 2.0), "c": (1.0, 1.0)}))
    assert len(lines) == 2 and lines[1].split() == ["a", *"2.000 1.000 2.00 8 2 4.00".split()]


def test_a_commit_is_checked_out_with_these_benchmarks_and_removed(tmp_path: Path, monkeypatch):
    root = tmp_path / "root"
    (root / "benchmarks").mkdir(parents=True)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (root / "code.py").write_text("old")
    for words in (["init", "-q"], ["add", "code.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    (root / "code.py").write_text("new")
    (root / "benchmarks/speed.py").write_text("yardstick")
    monkeypatch.setattr(compare, "ROOT", root)
    with compare.checked_out("HEAD", tmp_path / "tree") as tree:
        assert (tree / "code.py").read_text() == "old"
        assert (tree / "benchmarks/speed.py").read_text() == "yardstick"
    assert not (tmp_path / "tree").exists()
    with compare.checked_out(".", tmp_path / "tree") as tree:
        assert tree == root
