"""Two commits in one run: the speed table of each, measured in turns, and their medians compared.

    python -m benchmarks.compare COMMIT [COMMIT] [--rounds 3] [--threads 1]

The second commit is HEAD where it is not given; "." is the working tree. Each commit is checked out
into a temporary folder, and `benchmarks.speed --quick` of this tree measures both, so that the
yardstick is the same; it reaches back as far as the names at the front door (`bfr`). A ratio above
1 says that the second commit is quicker, or needs less memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Figures = dict[str, tuple[float, float]]
"""Seconds and MB by what was done."""


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A folder with a commit and the benchmarks of this tree; this tree itself for "."."""
    if commit == ".":
        yield ROOT
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def measure(tree: Path, threads: int) -> Figures:
    """One round of a tree."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "speed.json"
        command = [sys.executable, "-m", "benchmarks.speed", "--quick", "--ours"]
        command += ["--threads", str(threads), "--json", str(report)]
        subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
        return {row["work"]: tuple(row["ours"]) for row in json.loads(report.read_text())}


def medians(rounds: list[Figures]) -> Figures:
    """The median of the rounds, of what all of them measured."""
    names = [name for name in rounds[0] if all(name in each for each in rounds)]
    return {
        name: (
            statistics.median(each[name][0] for each in rounds),
            statistics.median(each[name][1] for each in rounds),
        )
        for name in names
    }


def table(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]):
    """The lines of the comparison."""
    yield f"{'':48}{'before':>9}{'after':>9}{'speed':>8}{'MB':>8}{'MB':>8}{'memory':>8}"
    for name in before:
        if name in after:
            (seconds, memory), (now, less) = before[name], after[name]
            ratio = f"{memory / less:8.2f}" if less >= 1 else f"{'':8}"
            speed = f"{seconds:9.3f}{now:9.3f}{seconds / now:8.2f}"
            yield f"{name:48}{speed}{memory:8.0f}{less:8.0f}{ratio}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", metavar="COMMIT")
    parser.add_argument("after", metavar="COMMIT", nargs="?", default="HEAD")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        checked_out(args.before, Path(folder) / "before") as before,
        checked_out(args.after, Path(folder) / "after") as after,
    ):
        rounds: tuple[list[Figures], list[Figures]] = ([], [])
        for _ in range(args.rounds):
            for tree, found in zip((before, after), rounds, strict=True):
                found.append(measure(tree, args.threads))
        for line in table(medians(rounds[0]), medians(rounds[1])):
            print(line)


if __name__ == "__main__":
    main()
