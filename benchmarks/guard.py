"""Is a worse restorer ever praised? Sabotaged targets, and the guard's verdict on each.

    python -m benchmarks.guard DATA OUT                 simulated: a minute, once faces are made
    python -m benchmarks.guard DATA OUT --train 120     really trained: minutes a case
    python -m benchmarks.guard DATA OUT --only warp dark

DATA is the folder that the training recipes take. Faces are aligned, damaged and restored by the
embedded restorer; then each case makes targets of them, good or bad. Simulated, a tuned restorer
gives half the way from the base's faces to the targets, which is about what some 120 steps of the
quick recipe learn; trained, it is tuned to the targets and restores faces of its own and others.

What was trained is kept in OUT; the verdicts are made anew each time.

The guard's limits were chosen with the cases of the half "tuning" and with clean targets of the
sample photographs; those of the half "report" and then the cases "new" were looked at afterwards,
and some limits moved then. "fresh", "last" and "sly" were written and committed before any
verdict on them was seen; their modules say what the guard made of them then.

The exit code is 1 if a verdict is wrong.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.pair_folders import write_pairs
from benchmarks.sabotage import FADED, LEARNED, REPORT, SCANS, SIZE, TUNING, Case, Faces, faded
from benchmarks.sabotage_fresh import FRESH
from benchmarks.sabotage_last import LAST
from benchmarks.sabotage_sly import SLY
from benchmarks.sabotage_unseen import NEW
from bfr.choices import AUTO
from bfr.damage.degrade import degrade_faces
from bfr.errors import LossError
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.identity import Identity, load_identity
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path
from bfr.finetune.batches import TrainingSet
from bfr.finetune.figures import compare
from bfr.finetune.guard import Verdict, judge
from bfr.finetune.identity import settled
from bfr.finetune.learner import make_learner
from bfr.finetune.look import Given, Look, look, look_at_given
from bfr.finetune.settings import PRESETS, adjusted
from bfr.finetune.validate import means
from bfr.pairs.settings import PairSettings
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.quality.perceptual import load_distance, pyramid_distance
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces
from bfr.runtime.processes import Share

_HELD = 4  # of the faces that are judged are not trained with
_FASTER = {"ema": 0.95, "held_back": 0.0, "precision": AUTO}  # it must follow so few steps
PHOTOS = ("train/congress", "train/headshots")


HALVES = {"tuning": TUNING, "report": REPORT, "new": NEW, "fresh": FRESH, "last": LAST, "sly": SLY}


def make_faces(data: Path, out: Path, damage: str, count: int) -> Faces:
    """Faces with one kind of damage; kept in OUT."""
    file = out / f"{damage}.safetensors"
    if not file.exists():
        folders = ("real_lq/portraits_tune",) if damage == SCANS else PHOTOS
        photos = [path for folder in folders for path in sorted((data / folder).iterdir())]
        random.Random(1).shuffle(photos)
        clean = _rounded(_aligned(photos, count))
        lq = clean if damage == SCANS else _rounded(_damaged(clean, damage))
        guess, prior = _rounded(restore_faces(lq, load_restorer())), load_prior()
        target = sample_targets(guess, prior, PairSettings().sampled_by(prior)).targets
        faces = {"lq": lq, "guess": guess, "target": target, "clean": clean}
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path:
            save_file({name: (255 * x).round().byte() for name, x in faces.items()}, path)
    return Faces(**{name: x[:count].float() / 255 for name, x in load_file(file).items()})


def _damaged(clean: Tensor, damage: str) -> Tensor:
    if damage == FADED:
        return faded(degrade_faces(clean, "gfpgan", 10_000))
    return degrade_faces(clean, damage, 10_000)


def _aligned(photos: Sequence[Path], count: int) -> Tensor:
    detector, crops = load_detector(), []
    for path in photos:
        image = read_photo(path).pixels
        found = select_faces(detect_faces(image, detector), sort="score", limit=1)
        crops += align_faces(image, found, SIZE)[0]
        if len(crops) == count:
            break
    return torch.stack(crops)


def _rounded(images: Tensor) -> Tensor:
    return (255 * images).round() / 255


def trained(name: str, case: Case, faces: Faces, args: argparse.Namespace) -> Tensor:
    """Restores the faces with a restorer tuned to the case's targets; kept in OUT."""
    file = args.out / "trained" / f"{name}.safetensors"
    if not file.exists():
        base = load_restorer()
        settings = adjusted(PRESETS["quick"], steps=args.train, distance="pyramid", **_FASTER)
        if case.lr is not None:
            settings = adjusted(settings, lr=case.lr, ema=0.999)
        settings = settled(settings, base, torch.device("cpu"))
        shutil.rmtree(args.out / "pairs", ignore_errors=True)
        images = (x[_HELD:] for x in (faces.lq, faces.guess, case.targets(faces)))
        data = TrainingSet(write_pairs(args.out / "pairs", *images), settings)
        learner = make_learner(base, settings, load_distance("pyramid"), torch.device("cpu"))
        try:
            for batches in data.batches(range(settings.steps), range(settings.micro_batches)):
                learner.learn(enumerate(batches), Share(), lambda: None)
            restored = restore_faces(faces.lq[: args.judged], learner.scored)
        except LossError as error:  # a run that ends so gives the base back
            print(f"  {name}: {error}", flush=True)
            restored = faces.guess[: args.judged]
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path:
            save_file({"restored": (255 * restored).round().byte()}, path)
    return load_file(file)["restored"].float() / 255


@cache
def before(data: Path, out: Path, damage: str, count: int, judged: int) -> tuple[Look, Given]:
    """Looks at the base's faces and at the damaged ones as the guard does."""
    faces = make_faces(data, out, damage, count)
    return look(faces.guess[:judged], identity()), look_at_given(faces.lq[:judged], identity())


@cache
def identity() -> Identity:
    return load_identity()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict of the guard, and the right one."""

    found: Verdict
    should: bool
    closer: float | None


def outcome(name: str, case: Case, args: argparse.Namespace) -> Outcome | None:
    """Judges one case; None if it cannot be simulated.

    What is really trained with good targets may yet be no better: it counts as good only where it
    is closer to the clean faces than the base (`pyramid_distance`), in faces that it did not see.
    """
    faces = make_faces(args.data, args.out, case.damage, args.faces)
    if args.train:
        restored = trained(name, case, faces, args)
    elif case.lr is not None:
        return None
    else:
        restored = faces.guess.lerp(case.targets(faces), args.learned).clamp(0, 1)
    closer, unseen = None, _HELD if args.train else args.judged
    if case.damage != SCANS:
        far, near = (
            float(pyramid_distance(x[:unseen], faces.clean[:unseen]).mean())
            for x in (faces.guess, restored)
        )
        closer = 1 - near / far
    base, given = before(args.data, args.out, case.damage, args.faces, args.judged)
    figures = compare(base, look(restored[: args.judged], identity()), given)
    if args.figures:
        print("  " + "  ".join(f"{name} {means(figures)[name]:.3g}" for name in figures))
    should = case.good and not (args.train and closer is not None and closer <= 0)
    return Outcome(judge(figures, compare(base, base)), should, closer)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=int, default=32, help="made, and trained with")
    parser.add_argument("--judged", type=int, default=16, help="faces that the guard sees")
    parser.add_argument("--learned", type=float, default=LEARNED, help="share of the way")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS", help="really train")
    parser.add_argument("--half", choices=HALVES, help="one half alone")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose names begin so")
    parser.add_argument("--figures", action="store_true", help="print the guard's figures too")
    args = parser.parse_args()
    wrong = 0
    for half, cases in HALVES.items():
        if args.half not in (None, half):
            continue
        print(f"\n| {half} | closer to clean | should be | is | what the guard says |")
        print("|---|---:|---|---|---|")
        for name, case in cases.items():
            if not name.startswith(tuple(args.only)):
                continue
            if (one := outcome(name, case, args)) is None:
                continue
            wrong += one.found.better != one.should
            words = [("accepted" if it else "refused") for it in (one.should, one.found.better)]
            mark = "" if one.found.better == one.should else " **wrong**"
            closer = "" if one.closer is None else f"{one.closer:+.1%}"
            row = (name, closer, words[0], words[1] + mark, one.found.describe())
            print(f"| {' | '.join(row)} |", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
