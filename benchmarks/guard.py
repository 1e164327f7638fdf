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
sample photographs; those of the half "report" were looked at afterwards. The exit code is 1 if a
verdict is wrong.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from kornia.filters import bilateral_blur, gaussian_blur2d
from safetensors.torch import load_file, save_file
from torch import Tensor

from bfr.damage.degrade import NO_DAMAGE, degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.identity import load_identity
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path
from bfr.finetune.batches import TrainingSet
from bfr.finetune.guard import Verdict, compare, judge, look
from bfr.finetune.learner import make_learner
from bfr.finetune.settings import PRESETS, adjusted
from bfr.finetune.validate import means
from bfr.image.tensors import luma
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.prior.sample import sample_targets
from bfr.quality.perceptual import load_distance, pyramid_distance
from bfr.restore.load import load_restorer
from bfr.restore.restorer import restore_faces
from bfr.runtime.processes import Share
from tests.finetune_sets import write_pairs

SIZE, LEARNED = 256, 0.5
_HELD = 4  # of the faces that are judged are not trained with
_FASTER = {"ema": 0.95, "held_back": 0.0, "precision": "bfloat16"}  # it must follow so few steps
PHOTOS = ("train/congress", "train/headshots")
SCANS, FADED = "scans", "faded alike"
EYES = ((-0.25, -0.07), (0.25, -0.07))  # in aligned faces, from -1 to 1


@dataclass(frozen=True, slots=True)
class Faces:
    """Damaged faces, the base's guesses, pseudo targets and, where known, the clean ones."""

    lq: Tensor
    guess: Tensor
    target: Tensor
    clean: Tensor


@dataclass(frozen=True, slots=True)
class Case:
    """Targets, and whether a restorer tuned to them deserves to be accepted."""

    targets: Callable[[Faces], Tensor]
    good: bool
    damage: str = "gfpgan"
    lr: float | None = None


def blurred(x: Tensor, deviation: float) -> Tensor:
    side = 2 * math.ceil(3 * deviation) + 1
    return gaussian_blur2d(x, (side, side), (deviation, deviation), "reflect")


def sharpened(x: Tensor, deviation: float, amount: float) -> Tensor:
    return (x + amount * (x - blurred(x, deviation))).clamp(0, 1)


def edged(x: Tensor) -> Tensor:
    return (x + 4 * (blurred(x, 0.8) - blurred(x, 1.6))).clamp(0, 1)


def warped(x: Tensor, amount: float = 0.12) -> Tensor:
    """Wider in the middle, and a little lopsided."""
    line = torch.linspace(-1, 1, x.shape[-1])
    y, x0 = torch.meshgrid(line, line, indexing="ij")
    near = torch.exp(-(x0**2 + y**2) / 0.4)
    grid = torch.stack(
        [
            x0 * (1 - amount * near) + amount / 6 * torch.sin(3 * y),
            y + amount / 2 * near * torch.sin(3 * x0),
        ],
        -1,
    )
    grid = grid.expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, "bicubic", "reflection", align_corners=True).clamp(0, 1)


def grainy(x: Tensor, deviation: float = 0.04) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    return (x + deviation * noise).clamp(0, 1)


def patterned(x: Tensor, pattern: Tensor, amount: float = 0.03) -> Tensor:
    return (x + amount * pattern).clamp(0, 1)


def checkers(side: int) -> Tensor:
    line = torch.arange(side)
    return ((line[:, None] + line) % 2 * 2 - 1).float()


def stripes(side: int) -> Tensor:
    return torch.sin(torch.arange(side) * (2 * math.pi / 6)).expand(side, side)


def mosaic(x: Tensor, side: int = 8) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, side), scale_factor=side, mode="nearest")


def noise(x: Tensor) -> Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def tinted(x: Tensor) -> Tensor:
    return (x * torch.tensor([1.06, 1.0, 0.9])[:, None, None]).clamp(0, 1)


def contrasted(x: Tensor, amount: float = 1.25) -> Tensor:
    return ((x - 0.5) * amount + 0.5).clamp(0, 1)


def pale(x: Tensor, share: float = 0.6) -> Tensor:
    return x.lerp(x.mean(1, keepdim=True), share)


def halves(x: Tensor) -> Tensor:
    """The upper half of one person on the lower of another."""
    middle = x.shape[-2] // 2
    return torch.cat([x[..., :middle, :], x.roll(1, 0)[..., middle:, :]], -2)


def shifted(x: Tensor, pixels: int = 3) -> Tensor:
    return F.pad(x, (pixels, 0, 0, 0), mode="replicate")[..., : x.shape[-1]]


def enlarged(x: Tensor, amount: float = 0.25) -> Tensor:
    """With larger eyes."""
    line = torch.linspace(-1, 1, x.shape[-1])
    y, x0 = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([x0, y], -1)
    for eye in EYES:
        away = grid - torch.tensor(eye)
        grid = grid - amount * away * torch.exp(-away.square().sum(-1, keepdim=True) / 0.02)
    grid = grid.expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, "bicubic", "reflection", align_corners=True).clamp(0, 1)


def patched(x: Tensor, other: Tensor, place: tuple[float, float], radius: float) -> Tensor:
    """A soft spot of another face."""
    line = torch.linspace(-1, 1, x.shape[-1])
    away = (line[:, None] - place[1]) ** 2 + (line - place[0]) ** 2
    return x.lerp(other, (2 - 2 * away / radius**2).clamp(0, 1))


def wax(x: Tensor) -> Tensor:
    """Skin without pores, edges kept."""
    return bilateral_blur(x, (11, 11), 0.08, (4.0, 4.0), "reflect")


def band_noise(x: Tensor) -> Tensor:
    rough = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    band = blurred(rough, 1.5) - blurred(rough, 3.0)
    return (x + 0.03 * band / band.std()).clamp(0, 1)


def ringing(x: Tensor) -> Tensor:
    """Cut off sharply at a third of the frequencies."""
    spectrum = torch.fft.fft2(x)
    line = torch.fft.fftfreq(x.shape[-1]).abs()
    keep = (line < 1 / 6) & (line < 1 / 6)[:, None]
    return torch.fft.ifft2(spectrum * keep).real.clamp(0, 1)


def one_sharpened(x: Tensor) -> Tensor:
    return torch.cat([sharpened(x[:, :1], 2.0, 4.0), x[:, 1:]], 1)


def packed(x: Tensor, quality: float) -> Tensor:
    return degrade_faces(x, replace(NO_DAMAGE, jpeg=(quality, quality)))


def cast(x: Tensor) -> Tensor:
    return (x * torch.tensor([0.94, 1.0, 1.06])[:, None, None]).clamp(0, 1)


def places(x: Tensor) -> tuple[Tensor, Tensor]:
    """The columns and rows of aligned faces, from -1 to 1."""
    line = torch.linspace(-1, 1, x.shape[-1])
    return line.expand(x.shape[-1], -1), line[:, None].expand(-1, x.shape[-1])


def vignette(x: Tensor) -> Tensor:
    """Darker towards the corners."""
    across, down = places(x)
    return x * (1 - 0.2 * (across.square() + down.square()))


def side_lit(x: Tensor) -> Tensor:
    """Light on the left, shade on the right."""
    return (x * (1 - 0.1 * places(x)[0])).clamp(0, 1)


def bleached(x: Tensor) -> Tensor:
    """With lighter hair."""
    across, down = places(x)
    hair = ((-0.45 - down) / 0.2).clamp(0, 1) * (1 - across.square())
    return x + 0.35 * hair * (1 - x)


def lipstick(x: Tensor) -> Tensor:
    """With red lips."""
    across, down = places(x)
    lips = torch.exp(-((across / 0.22) ** 2) - ((down - 0.46) / 0.08) ** 2)
    return (x * (1 - 0.3 * lips * torch.tensor([0.0, 1.0, 0.8])[:, None, None])).clamp(0, 1)


def haloed(x: Tensor) -> Tensor:
    """The local contrast of an overdone HDR photograph."""
    return sharpened(x, 12.0, 0.5)


def bled(x: Tensor) -> Tensor:
    """Colours that run over their edges."""
    grey = luma(x)
    return (grey + blurred(x - grey, 8.0)).clamp(0, 1)


def colour_noise(x: Tensor) -> Tensor:
    """Noise that changes colours only."""
    noise = blurred(torch.randn(x.shape, generator=torch.Generator().manual_seed(7)), 1.0)
    noise = 0.08 * noise / noise.std()
    return (x + noise - luma(noise)).clamp(0, 1)


def slimmed(x: Tensor, amount: float = 0.06) -> Tensor:
    """With narrower faces."""
    across, down = places(x)
    near = torch.exp(-(across**2 + down**2) / 0.5)
    grid = torch.stack([across * (1 + amount * near), down], -1).expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, "bicubic", "reflection", align_corners=True).clamp(0, 1)


def doubled(x: Tensor) -> Tensor:
    """With a faint second outline."""
    return x.lerp(shifted(x, 4), 0.3)


def glowing(x: Tensor) -> Tensor:
    """The soft light of a beauty filter: skin smooth, lights bloom."""
    soft = blurred(wax(x), 6.0)
    return x.lerp(1 - (1 - x) * (1 - soft), 0.25)


def averaged(x: Tensor) -> Tensor:
    """A little of the same mean face in all."""
    return x.lerp(x.mean(0, keepdim=True), 0.3)


def faded(x: Tensor) -> Tensor:
    """As after years in the sun, the same for all: no black and little contrast."""
    return 0.22 + 0.62 * x


TUNING = {
    "clean faces": Case(lambda f: f.clean, True),
    "pseudo targets": Case(lambda f: f.target, True),
    "pseudo targets, camera noise": Case(lambda f: f.target, True, "camera noise ISO 3000"),
    "over-sharpened": Case(lambda f: sharpened(f.guess, 2.0, 4.0), False),
    "edges drawn in": Case(lambda f: edged(f.guess), False),
    "warped and sharpened": Case(lambda f: sharpened(warped(f.guess), 1.5, 2.5), False),
    "darkened": Case(lambda f: 0.94 * f.guess, False),
    "grain": Case(lambda f: grainy(f.guess), False),
    "checkerboard": Case(lambda f: patterned(f.guess, checkers(SIZE)), False),
    "blurred a little": Case(lambda f: blurred(f.guess, 1.0), False),
    "swapped people": Case(lambda f: f.guess.roll(1, 0), False),
    "mosaic": Case(lambda f: mosaic(f.guess), False),
    "gently better": Case(lambda f: f.guess.lerp(f.clean, 0.5), True),
    "darker but better": Case(lambda f: 0.94 * f.clean, False),
    "a little contrast": Case(lambda f: contrasted(f.guess, 1.12), False),
    "large eyes": Case(lambda f: enlarged(f.guess), False),
    "wax": Case(lambda f: wax(f.guess), False),
    "jpeg": Case(lambda f: packed(f.guess, 12), False),
    "eyes of another": Case(
        lambda f: patched(
            patched(f.guess, f.clean.roll(1, 0), EYES[0], 0.35), f.clean.roll(1, 0), EYES[1], 0.35
        ),
        False,
    ),
    "vignette": Case(lambda f: vignette(f.guess), False),
    "light from the left": Case(lambda f: side_lit(f.clean), False),
    "red lips": Case(lambda f: lipstick(f.guess), False),
    "narrow faces": Case(lambda f: slimmed(f.guess), False),
    "moved aside by 1 px": Case(lambda f: shifted(f.guess, 1), False),
    "colour noise": Case(lambda f: colour_noise(f.guess), False),
    "colours that run": Case(lambda f: bled(f.guess), False),
    "clean faces, all faded alike": Case(lambda f: f.clean, True, FADED),
    "diverging, lr 0.05": Case(lambda f: f.target, False, lr=0.05),
}
REPORT = {
    "clean faces, camera noise": Case(lambda f: f.clean, True, "camera noise ISO 3000"),
    "pseudo targets, scans": Case(lambda f: f.target, True, SCANS),
    "pseudo targets, faded prints": Case(lambda f: f.target, True, "faded print"),
    "over-sharpened, finer": Case(lambda f: sharpened(f.guess, 1.0, 4.0), False),
    "darkened and sharpened": Case(lambda f: 0.94 * sharpened(f.guess, 1.5, 2.5), False),
    "warped": Case(lambda f: warped(f.guess), False),
    "moved aside by 3 px": Case(lambda f: shifted(f.guess), False),
    "stripes": Case(lambda f: patterned(f.guess, stripes(SIZE)), False),
    "posterised": Case(lambda f: (10 * f.guess).round() / 10, False),
    "blurred": Case(lambda f: blurred(f.guess, 3.0), False),
    "one head for all": Case(lambda f: f.clean[:1].expand_as(f.guess), False),
    "strangers, sharpened": Case(lambda f: sharpened(f.clean.roll(1, 0), 1.5, 2.0), False),
    "halves of two people": Case(lambda f: halves(f.guess), False),
    "noise": Case(lambda f: noise(f.guess), False),
    "tint": Case(lambda f: tinted(f.guess), False),
    "contrast": Case(lambda f: contrasted(f.guess), False),
    "paler": Case(lambda f: pale(f.guess), False),
    "over-sharpened pseudo targets": Case(lambda f: sharpened(f.target, 1.5, 2.5), False),
    "over-sharpened, real scans": Case(lambda f: sharpened(f.guess, 2.0, 4.0), False, SCANS),
    "better, and contrast": Case(lambda f: contrasted(f.clean, 1.15), False),
    "darker, camera noise": Case(lambda f: 0.94 * f.target, False, "camera noise ISO 3000"),
    "lighter but better": Case(lambda f: (1.06 * f.clean).clamp(0, 1), False),
    "blue cast": Case(lambda f: cast(f.guess), False),
    "blue cast, better": Case(lambda f: cast(f.clean), False),
    "mouth of another": Case(
        lambda f: patched(f.guess, f.clean.roll(1, 0), (0.0, 0.35), 0.4), False
    ),
    "mirrored": Case(lambda f: f.guess.flip(-1), False),
    "band of noise": Case(lambda f: band_noise(f.guess), False),
    "ringing": Case(lambda f: ringing(f.guess), False),
    "one channel sharpened": Case(lambda f: one_sharpened(f.guess), False),
    "bleached hair": Case(lambda f: bleached(f.clean), False),
    "large eyes, a little": Case(lambda f: enlarged(f.clean, 0.12), False),
    "overdone HDR": Case(lambda f: haloed(f.guess), False),
    "second outline": Case(lambda f: doubled(f.clean), False),
    "beauty filter": Case(lambda f: glowing(f.guess), False),
    "a mean face in all": Case(lambda f: averaged(f.guess), False),
    "clean faces, faded prints": Case(lambda f: f.clean, True, "faded print"),
    "clean, then faded": Case(lambda f: faded(f.clean), False),
    "diverging, lr 0.1": Case(lambda f: f.target, False, lr=0.1),
}
HALVES = {"tuning": TUNING, "report": REPORT}


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
        target = sample_targets(guess, prior, Guidance().settings(prior)).targets
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
    """What a restorer makes of the faces that was tuned to the case's targets; kept in OUT."""
    file = args.out / "trained" / f"{name}.safetensors"
    if not file.exists():
        base = load_restorer()
        settings = adjusted(PRESETS["quick"], steps=args.train, distance="pyramid", **_FASTER)
        if case.lr is not None:
            settings = adjusted(settings, lr=case.lr, ema=0.999)
        shutil.rmtree(args.out / "pairs", ignore_errors=True)
        images = (x[_HELD:] for x in (faces.lq, faces.guess, case.targets(faces)))
        data = TrainingSet(write_pairs(args.out / "pairs", *images), settings)
        learner = make_learner(base, settings, load_distance("pyramid"), torch.device("cpu"))
        for batches in data.batches(range(settings.steps), range(settings.micro_batches)):
            learner.learn(enumerate(batches), Share(), lambda: None)
        restored = restore_faces(faces.lq[: args.judged], learner.scored)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path:
            save_file({"restored": (255 * restored).round().byte()}, path)
    return load_file(file)["restored"].float() / 255


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the guard says, and what it should say."""

    found: Verdict
    should: bool
    closer: float | None


def outcome(name: str, case: Case, args: argparse.Namespace) -> Outcome | None:
    """Of one case; None if it cannot be simulated.

    What is really trained with good targets may yet be no better: it counts as good only where it
    is closer to the clean faces than the base (`pyramid_distance`).
    """
    faces = make_faces(args.data, args.out, case.damage, args.faces)
    if args.train:
        restored = trained(name, case, faces, args)
    elif case.lr is not None:
        return None
    else:
        restored = faces.guess.lerp(case.targets(faces), args.learned).clamp(0, 1)
    identity, closer = load_identity(), None
    if case.damage != SCANS:
        before, after = (
            float(pyramid_distance(x[: args.judged], faces.clean[: args.judged]).mean())
            for x in (faces.guess, restored)
        )
        closer = 1 - after / before
    base, tuned = (look(x[: args.judged], identity) for x in (faces.guess, restored))
    with torch.no_grad():
        given = identity.embed(faces.lq[: args.judged])
    figures = compare(base, tuned, given)
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
