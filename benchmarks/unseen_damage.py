"""The experiment that matters: tune the embedded restorer to damage it was not trained on.

    python -m benchmarks.unseen_damage DATA OUT [--faces 150] [--steps 500] ...
    python -m benchmarks.unseen_damage DATA OUT --only "real scans/soft"    one part of it
    python -m benchmarks.unseen_damage DATA OUT --only table                 what is there so far

DATA is the folder that the training recipes take. Each kind of damage is its own run: faces of
photographs to tune with, damaged alike (or scanned so), become pairs of pseudo targets; the
restorer is tuned to these, and base and tuned one restore other people's faces. Five ways to tune:
with targets by the paper's hold ("paper"), or by the soft one ("soft"); with the latter and clean
faces of other people that get the damage learned from the pairs ("learned"); and each of the last
two twice, the second time with pairs of which the tuned restorer made the guesses ("soft, two
rounds", "two rounds"). No clean original of the tuning faces is used, but the embedded prior has
learned from some of those to which damage is added here; the evaluation faces are new to all
networks.

Every part ends with files in OUT and is not done again; an interrupted one goes on. Parts may
run in processes of their own. OUT/table.md and a grid of faces for each damage are written last.
What is tuned is measured whether it scored better in its own run or not; the table says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.unseen_faces import (
    SCANS,
    DamagedFaces,
    clean_folder,
    evaluation_faces,
    tuning_faces,
)
from benchmarks.unseen_tables import in_order, tabulate, write_json
from bfr.choices import AUTO, CALLS, PAIRS_FREEDOM, PRECISIONS
from bfr.faces.identity import load_identity
from bfr.faces.retinaface import load_detector
from bfr.files.photos import Photo
from bfr.files.writing import write_photo
from bfr.finetune.identity import settled
from bfr.finetune.loop import finetune
from bfr.finetune.save import save_restorer
from bfr.finetune.settings import PRESETS, adjusted
from bfr.pairs.build import build_pairs_from_crops
from bfr.pairs.damage import compare_damage, damage_of
from bfr.pairs.folder import PairSet, read_image, read_pairs
from bfr.pairs.settings import PairSettings
from bfr.prior.guidance import Guidance
from bfr.prior.load import load_prior
from bfr.quality.measure import measure_faces
from bfr.quality.perceptual import load_distance
from bfr.restore.load import load_restorer
from bfr.restore.restorer import Restorer, restore_faces

DAMAGES = ("camera noise ISO 1500", "camera noise ISO 3000", "newspaper", SCANS)
PAPER, SOFT, LEARNED = "paper", "soft", "learned"
SOFT_TWICE, TWICE = "soft, two rounds", "two rounds"
WAYS = (PAPER, SOFT, SOFT_TWICE, LEARNED, TWICE)
FIRST_ROUND = {SOFT_TWICE: SOFT, TWICE: LEARNED}
"""The way that a way in two rounds begins with."""


def pairs_of(
    folder: Path, damage: str, way: str, base: Restorer, args: argparse.Namespace
) -> PairSet:
    """The pairs of a way to tune; "learned" has those of "soft"."""
    if way == LEARNED:
        folder, way = folder.with_name(SOFT), SOFT
    prior = load_prior(args.prior)
    prior.network.to(args.device)
    guidance = Guidance(hold="paper", calls=args.calls)
    if way != PAPER:
        guidance = Guidance(hold="soft", freedom=args.freedom, calls=args.calls)
    settings = PairSettings(sample=guidance.settings(prior))
    given = tuning_faces(args.data, args.out, damage, args.faces).given
    say = _sayer(f"{damage}/{way}")
    build_pairs_from_crops(given, folder / "pairs", base, prior, settings, say=say)
    return read_pairs(folder / "pairs")


def tune(damage: str, way: str, args: argparse.Namespace) -> None:
    """One run: pairs, fine-tuning, the tuned restorer's file and its figures."""
    folder = args.out / damage / way
    if (folder / "figures.json").exists():
        return
    base = load_restorer()
    if first := FIRST_ROUND.get(way):
        tune(damage, first, args)
        base = load_restorer(args.out / damage / first / "restorer.safetensors")
    pairs = pairs_of(folder, damage, way, base, args)
    learned = damage_of(pairs) if way in (LEARNED, TWICE) else None
    if learned is not None:
        print(f"{damage}: {learned.describe()}", flush=True)
        write_photo(args.out / f"{damage} learned.png", Photo(compare_damage(pairs, learned)))
    quick = PRESETS["quick"]
    recipe = adjusted(
        quick,
        seed=args.seed,
        steps=args.steps,
        identity=args.identity,
        precision=precision_of(args),
        adapter_rank=args.adapter_rank,
        ema=min(quick.ema, 1 - 5 / max(args.steps, 5)),  # the average must follow few steps, too
    )
    tuned = finetune(
        base,
        pairs,
        folder / "run",
        recipe,
        clean=None if learned is None else clean_folder(args),
        damage=learned,
        device=args.device,
        keep_worse=True,
        validate_every=max(1, args.steps // 2),
        say=_sayer(f"{damage}/{way}"),
    )
    save_restorer(folder / "restorer.safetensors", tuned.restorer)
    write_photo(folder / "strip.png", Photo(tuned.strip))
    (folder / "report.txt").write_text(tuned.report + "\n", encoding="utf-8")
    seen = evaluation_faces(args.data, args.out, damage, args.evaluated)
    figures = {
        "restored": measure(restore_faces(seen.given, tuned.restorer), seen),
        "improved": tuned.improved,
        "best step": tuned.best_step,
    }
    known = tuning_faces(args.data, args.out, damage, args.faces)
    known = in_order(known, [pair.source for pair in pairs.kept])
    for kind in ("guess", "target"):
        made = torch.cat([read_image(pairs.folder, kind, pair) for pair in pairs.kept])
        figures[kind] = measure(made, known)
    write_json(folder / "figures.json", figures)


def measure_base(damage: str, args: argparse.Namespace) -> None:
    """The figures of the damaged faces and of what the base makes of them."""
    file = args.out / damage / "figures.json"
    if file.exists():
        return
    seen = evaluation_faces(args.data, args.out, damage, args.evaluated)
    base = restore_faces(seen.given, load_restorer())
    write_json(file, {"damaged": measure(seen.given, seen), "base": measure(base, seen)})


def measure(restored: Tensor, faces: DamagedFaces) -> dict[str, object]:
    """A table of the faces' figures, as JSON has it."""
    table = measure_faces(
        restored,
        reference=faces.clean,
        given=faces.given,
        detector=load_detector(),
        distance=load_distance("auto"),
        identity=load_identity(),
    )
    return asdict(table)


def _sayer(name: str) -> Callable[[str], None]:
    return lambda line: print(f"{name}: {line}", flush=True)


def parts(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The runs that are asked for."""
    for damage in args.damages:
        for way in args.ways:
            if args.only in (None, f"{damage}/{way}"):
                yield damage, way


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=int, default=150, help="to tune with")
    parser.add_argument("--steps", type=int, default=PRESETS["quick"].steps)
    parser.add_argument("--evaluated", type=int, default=100, help="faces to measure on")
    parser.add_argument("--damages", nargs="+", choices=DAMAGES, default=DAMAGES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--only", help='"DAMAGE/WAY", or "table"')
    parser.add_argument("--prior", type=Path, help="a file; the embedded one if none is named")
    parser.add_argument("--calls", type=int, default=CALLS, help="of the prior, a face")
    parser.add_argument("--freedom", type=float, default=PAIRS_FREEDOM, help="of the soft hold")
    parser.add_argument("--clean", type=int, default=96, help="clean faces of other people")
    parser.add_argument("--identity", type=float, default=PRESETS["quick"].identity)
    parser.add_argument(
        "--precision", choices=(AUTO, *PRECISIONS), default=PRESETS["quick"].precision
    )
    parser.add_argument("--adapter-rank", type=int, default=0, help="0 tunes all weights")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shown", type=int, default=8, help="faces in a grid")
    args = parser.parse_args(words)
    names = ["table", *(f"{one}/{other}" for one in args.damages for other in args.ways)]
    if args.only not in (None, *names):
        parser.error(f"--only is one of {names}")
    return args


def precision_of(args: argparse.Namespace) -> str:
    """The precision that the runs compute in: on this device, where "auto" is asked for."""
    recipe = adjusted(PRESETS["quick"], precision=args.precision)
    return settled(recipe, load_restorer(), torch.device(args.device)).precision


def check_same(args: argparse.Namespace) -> None:
    """Writes down with what OUT is made, so that no table mixes several.

    Raises:
        SystemExit: if OUT was begun with something else.
    """
    names = "faces steps evaluated calls freedom clean identity seed".split()
    wanted = {
        **{name: getattr(args, name) for name in names},
        "precision": precision_of(args),
        "prior": load_prior(args.prior).sha256,
    }
    if args.adapter_rank:
        wanted["adapter rank"] = args.adapter_rank
    file = args.out / "settings.json"
    if not file.exists():
        write_json(file, wanted)
    elif (begun := json.loads(file.read_text())) != wanted:
        raise SystemExit(
            f"{args.out} must hold results of {wanted}, got {begun}. Name another OUT."
        )


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    check_same(args)
    for damage, way in parts(args):
        measure_base(damage, args)
        tune(damage, way, args)
    print(tabulate(args))


if __name__ == "__main__":
    main()
