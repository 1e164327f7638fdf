"""All recipes in their order, from the data folder to the files of `weights/`.

    python -m recipes DATA [--runs runs] [--only NAME] [--smoke]

It takes about thirty hours on two CPU cores. What was interrupted is resumed by the same command.
`--smoke` runs every command for a step on a few pictures, into an empty folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from . import aligned, background, detector, niqe, occlusion, prior, restorer, scratches

RECIPES = ("detector", "faces", "restorer", "niqe", "prior", "background", "occlusion", "scratches")
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
_SMOKE_FILES = 8  # of each folder


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a recipe: its module's main function and words for it."""

    main: Callable[[Sequence[str]], None]
    words: tuple[str, ...]
    trains: bool = False


def commands(recipe: str, data: Path, runs: Path, weights: Path) -> Iterator[Command]:
    """The commands of one of `RECIPES`."""

    def command(main: Callable, *words: object, trains: bool = False) -> Command:
        return Command(main, tuple(map(str, words)), trains)

    faces = runs / "faces"
    first, second = runs / "detector", runs / "detector2"
    labels = ("--labels", first / "labels.json", "--start", first)
    rough, whole = runs / "restorer", runs / "restorer_whole"
    whole_faces = ("--patch", aligned.SIZE, "--start", rough)
    finished = runs / "restorer_finished"
    if recipe == "detector":
        yield command(detector.main, "train", data, first, "--minutes", 30, trains=True)
        yield command(detector.main, "label", data, first)
        yield command(detector.main, "train", data, second, "--minutes", 150, *labels, trains=True)
        yield command(detector.main, "export", second, weights / "detector.safetensors")
    elif recipe == "faces":
        yield command(aligned.main, data, faces)  # by the pack's detector, just replaced
    elif recipe == "restorer":
        train = partial(command, restorer.main, trains=True)
        yield train("train", faces, rough, "--minutes", 120)
        yield train("train", faces, whole, "--minutes", 300, *whole_faces)
        yield train("finish", faces, finished, whole, "--minutes", 30)
        yield command(restorer.main, "export", finished, weights / "restorer.safetensors")
    elif recipe == "niqe":
        yield command(niqe.main, "fit", faces, weights / "niqe.safetensors")
    elif recipe == "prior":
        run = runs / "prior"
        yield command(prior.main, "train", faces, run, "--minutes", 1000, trains=True)
        yield command(prior.main, "export", run, weights / "prior.safetensors")
    elif recipe == "occlusion":
        things, run = runs / "things", runs / "occlusion"
        yield command(occlusion.main, "prepare", data, faces, things)
        yield command(occlusion.main, "train", faces, things, run, "--minutes", 60, trains=True)
        yield command(occlusion.main, "export", run, weights / "occlusion.safetensors")
    elif recipe == "scratches":
        run = runs / "scratches"
        yield command(scratches.main, "train", data, run, "--minutes", 80, trains=True)
        yield command(scratches.main, "export", run, weights / "scratches.safetensors")
    elif recipe == "background":
        squares, run = runs / "squares", runs / "background"
        yield command(background.main, "prepare", data, squares)
        yield command(background.main, "train", squares, run, "--minutes", 30, trains=True)
        yield command(background.main, "export", run, weights / "background.safetensors")


def small_copy(data: Path, to: Path) -> Path:
    """Links the first files of each folder of the data, and copies as much of its tables."""
    folders = [path for path in data.rglob("*") if path.is_dir()]
    for folder in sorted(folders, reverse=True):  # images before their table
        made = to / folder.relative_to(data)
        made.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for path in folder.iterdir() if path.is_file())[:_SMOKE_FILES]:
            if path.suffix == ".csv":
                head, *rows = path.read_text().splitlines(keepends=True)
                shown = [row for row in rows if (made / "images" / row.split(",")[0]).exists()]
                (made / path.name).write_text("".join([head, *shown]))
            else:
                (made / path.name).symlink_to(path.resolve())
    return to


def run(data: Path, runs: Path, weights: Path, only: Sequence[str], smoke: bool) -> None:
    """Runs the recipes named, or all."""
    for recipe in only or RECIPES:
        least = "2" if recipe == "detector" else "1"  # which halves its batch, and mirrors it
        for command in commands(recipe, data, runs, weights):
            brief = ("--steps", "1", "--batch", least) if smoke and command.trains else ()
            command.main([*command.words, *brief])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--only", choices=RECIPES, action="append", default=[])
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        with TemporaryDirectory() as folder:
            few = small_copy(args.data, Path(folder) / "data")
            (Path(folder) / "weights").mkdir()
            run(few, Path(folder) / "runs", Path(folder) / "weights", args.only, True)
    else:
        run(args.data, args.runs, WEIGHTS, args.only, False)


if __name__ == "__main__":
    main()
