"""Kills commands at random moments, lets them resume, and compares with an unbroken run.

    python -m benchmarks.kills [--kills 50] [--seed 0] [--only targets finetune restore video]

Every command runs on small photographs with the embedded networks, as users run it, in a child
that is killed (SIGKILL) after a random time. After some kills it runs to its end. Then nothing may
be lost, and nothing that was finished may have been done twice: a finished file must stay the file
that it was. The end must equal that of the unbroken run, and no temporary file may stay.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from bfr.cli.main import main as bfr
from bfr.pairs.folder import read_pairs

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
_IN_A_ROW = 6  # kills before the command may run to its end
_LATEST = 0.5  # of the unbroken run's time, for a kill


@dataclass(frozen=True)
class Command:
    """A command under test.

    Attributes:
        name: of the command.
        words: makes its words from the folder of its inputs and that of its results.
        finished: the files in the results' folder that count as finished.
        same: whether two folders of results are the same.
    """

    name: str
    words: Callable[[Path, Path], list[str]]
    finished: Callable[[Path], Iterable[Path]]
    same: Callable[[Path, Path], bool]


def photographs(folder: Path, count: int, side: int) -> None:
    """Copies of one portrait, each with a little noise of its own."""
    folder.mkdir(parents=True)
    with Image.open(SAMPLES / "grace_hopper.jpg") as image:
        image.thumbnail((side, side))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for number in range(count):
        noise = np.random.default_rng(number).integers(-3, 4, pixels.shape)
        noisy = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
        noisy.save(folder / f"{number:02d}.png")


def images_of(out: Path) -> list[Path]:
    """The results of ``restore`` and ``video``."""
    return sorted(out.glob("[!.]*.png"))


def targets_of(out: Path) -> list[Path]:
    """The pseudo targets that the manifest calls made."""
    if not (out / "manifest.jsonl").exists():
        return []
    pairs = read_pairs(out)
    return [pairs.path("target", pair) for pair in pairs.kept]


def same_files(a: Path, b: Path) -> bool:
    """True if two folders hold the same files, locks aside."""

    def content(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name != ".lock"}

    return content(a) == content(b)


def same_run(a: Path, b: Path) -> bool:
    """True if two run folders hold the same networks."""
    names = sorted(path.name for path in a.glob("*.safetensors"))
    if names != sorted(path.name for path in b.glob("*.safetensors")):
        return False
    for name in names:
        one, other = load_file(a / name), load_file(b / name)
        if one.keys() != other.keys() or any(not torch.equal(one[k], other[k]) for k in one):
            return False
    return True


def targets_words(data: Path, out: Path, size: int) -> list[str]:
    """The words of ``targets`` for faces of a size."""
    return f"{data} -o {out} --size {size} --batch-size 1 --sampler ddim --calls 2".split()


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "restore",
            lambda data, out: [*f"{data} -o {out} --existing skip".split()],
            images_of,
            same_files,
        ),
        Command(
            "video",
            lambda data, out: [*f"{data} -o {out} --existing skip --chunk 2".split()],
            images_of,
            same_files,
        ),
        Command(
            "targets",
            lambda data, out: targets_words(data, out, 64),
            targets_of,
            same_files,
        ),
        Command(
            "finetune",
            lambda data, out: [
                *f"{data} -o {out} --steps 6 --patch 32 --batch 2 --micro-batch 2".split(),
                *"--validate-every 3 --save-every 1 --keep-worse".split(),
            ],
            lambda out: [],
            same_run,
        ),
    )
}


def start(command: Command, data: Path, out: Path) -> int:
    """Runs the command in a child; its process id."""
    child = os.fork()
    if not child:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os._exit(bfr([command.name, *command.words(data, out), "--device", "cpu"]))
        finally:
            os._exit(99)
    return child


def to_its_end(command: Command, data: Path, out: Path) -> float:
    """Runs the command undisturbed; the seconds that it took."""
    began = time.monotonic()
    _, status = os.waitpid(start(command, data, out), 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{command.name} fails with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began


def kill_after(seconds: float, child: int) -> bool:
    """Kills a child after some time; False if it had ended before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def identities(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """The facts of a file that change when it is written again."""
    found = {path: path.stat() for path in paths}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def torment(command: Command, data: Path, folder: Path, kills: int, dice: random.Random) -> None:
    """Kills a command so often, and prints what was lost or done twice.

    Raises:
        SystemExit: if anything was.
    """
    whole = folder / "whole"
    seconds = to_its_end(command, data, whole)
    killed = ended = rounds = 0
    while killed < kills:
        out, rounds, before = folder / f"round {rounds}", rounds + 1, {}
        out = out.with_name(out.name.replace(" ", "-"))
        for _ in range(min(_IN_A_ROW, kills - killed)):
            hit = kill_after(dice.uniform(0.02, _LATEST) * seconds, start(command, data, out))
            killed, ended = killed + hit, ended + (not hit)
            now = identities(command.finished(out)) if out.is_dir() else {}
            check(command, "lost or done twice", before.items() <= now.items(), out)
            before = now
        to_its_end(command, data, out)
        now = identities(command.finished(out))
        check(command, "lost or done twice at the end", before.items() <= now.items(), out)
        check(command, "another result than the unbroken run", command.same(out, whole), out)
        check(command, "temporary files left", not list(out.rglob(".*.part")), out)
        shutil.rmtree(out)
    print(
        f"{command.name}: {killed} kills in {rounds} rounds ({ended} came too late), unbroken "
        f"{seconds:.1f} s: nothing lost, nothing done twice, nothing left behind",
        flush=True,
    )


def check(command: Command, what: str, good: bool, out: Path) -> None:
    if not good:
        kept = Path(tempfile.mkdtemp(prefix="kills-")) / out.name
        shutil.copytree(out, kept)
        raise SystemExit(f"{command.name}: {what}; see {kept}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    if not hasattr(os, "fork"):
        sys.exit("This needs a system with fork and SIGKILL.")
    torch.set_num_threads(1)  # a child of a process with threads may hang
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = {"restore": (4, 160), "video": (5, 140), "targets": (3, 160)}
        for command, (count, side) in data.items():
            photographs(folder / command / "data", count, side)
        if "finetune" in args.only:
            # At the size of the embedded restorer, which takes no other.
            made = replace(
                COMMANDS["targets"], words=lambda data, out: targets_words(data, out, 256)
            )
            to_its_end(made, folder / "targets" / "data", folder / "finetune" / "data")
        for command in args.only:
            torment(
                COMMANDS[command], folder / command / "data", folder / command, args.kills, dice
            )


if __name__ == "__main__":
    main()
