"""The experiment that matters: tune the embedded restorer to damage it was not trained on.

    python -m benchmarks.unseen_damage DATA OUT [--faces 150] [--steps 500] ...
    python -m benchmarks.unseen_damage DATA OUT --only "real scans/soft"    one part of it
    python -m benchmarks.unseen_damage DATA OUT --only table                 what is there so far

DATA is the folder that the training recipes take. Each kind of damage is its own run: faces of
photographs to tune with, damaged alike (or scanned so), become pairs of pseudo targets; the
restorer is tuned to these, and base and tuned one restore other people's faces. Four ways to tune:
with targets by the paper's hold ("paper"), or by the soft one ("soft"); with the latter and clean
faces of other people that get the damage learned from the pairs ("learned"); and that twice, the
second time with pairs of which the tuned restorer made the guesses ("two rounds"). No clean
original of the tuning faces is used, but the embedded prior has learned from some of those to
which damage is added here; the evaluation faces are new to all networks.

Every part ends with files in OUT and is not done again; an interrupted one goes on. Parts may
run in processes of their own. OUT/table.md and a grid of faces for each damage are written last.
What is tuned is measured whether it scored better in its own run or not; the table says so.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bfr.choices import CALLS, PRECISIONS
from bfr.damage.degrade import degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.identity import load_identity
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import Photo, read_photo
from bfr.files.whole import atomic_path
from bfr.files.writing import write_photo
from bfr.finetune.loop import finetune
from bfr.finetune.save import save_restorer
from bfr.finetune.settings import PRESETS, adjusted
from bfr.image.sheets import sheet
from bfr.image.tensors import from_uint8, to_uint8
from bfr.pairs.build import PairSettings, build_pairs_from_crops
from bfr.pairs.damage import compare_damage, damage_of
from bfr.pairs.folder import PairSet, read_image, read_pairs
from bfr.prior.guidance import Guidance
from bfr.prior.prior import load_prior
from bfr.quality.measure import measure_faces
from bfr.quality.perceptual import load_distance
from bfr.quality.tables import Column, Table
from bfr.restore.load import load_restorer
from bfr.restore.restorer import Restorer, restore_faces

SIZE = 256
SCANS = "real scans"
DAMAGES = ("camera noise ISO 1500", "camera noise ISO 3000", "newspaper", SCANS)
PAPER, SOFT, LEARNED, TWICE = WAYS = ("paper", "soft", "learned", "two rounds")
TUNE_SEED, EVALUATION_SEED = 10_000, 20_000


@dataclass(frozen=True, slots=True)
class Faces:
    """Aligned faces: N×3×S×S RGB in [0, 1] as they are given, and clean where that is known."""

    given: Tensor
    clean: Tensor | None


def aligned(data: Path, out: Path, name: str, count: int) -> Tensor:
    """The surest face of each of some photographs, N×3×S×S; kept in OUT/crops."""
    file = out / "crops" / f"{name}-{count}.safetensors"
    if not file.exists():
        folders = {"train": ("train/congress", "train/headshots")}.get(name, (name,))
        photos = [path for folder in folders for path in sorted((data / folder).iterdir())]
        random.Random(0).shuffle(photos)
        detector, crops = load_detector(), []
        for path in photos:
            image = read_photo(path).pixels
            found = select_faces(detect_faces(image, detector), sort="score", limit=1)
            crops += align_faces(image, found, SIZE)[0]
            if len(crops) == count:
                break
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as path:
            save_file({"crops": (torch.stack(crops) * 255).round().byte()}, path)
    return load_file(file)["crops"].float() / 255


def tuning_faces(data: Path, out: Path, damage: str, count: int) -> Faces:
    """What the restorer is tuned with."""
    if damage == SCANS:
        return Faces(aligned(data, out, "real_lq/portraits_tune", count), None)
    clean = aligned(data, out, "train", count)
    return Faces(_written(degrade_faces(clean, damage, TUNE_SEED)), clean)


def evaluation_faces(data: Path, out: Path, damage: str, count: int) -> Faces:
    """Other faces, which the restorers are measured on."""
    if damage == SCANS:
        return Faces(aligned(data, out, "real_lq/portraits_eval", count), None)
    clean = aligned(data, out, "eval/hq", count)
    return Faces(_written(degrade_faces(clean, damage, EVALUATION_SEED)), clean)


def clean_folder(args: argparse.Namespace) -> Path:
    """Clean faces as a user may have them: of other people than the tuning faces."""
    folder = args.out / "clean"
    if not folder.exists():
        others = aligned(args.data, args.out, "train", args.faces + args.clean)[args.faces :]
        folder.mkdir(parents=True)
        for number, face in enumerate(others):
            write_photo(folder / f"{number:03d}.png", Photo(face[None]))
    return folder


def pairs_of(
    folder: Path, damage: str, way: str, base: Restorer, args: argparse.Namespace
) -> PairSet:
    """The pairs of a way to tune; "learned" has those of "soft"."""
    if way == LEARNED:
        folder, way = folder.with_name(SOFT), SOFT
    prior = load_prior(args.prior)
    prior.network.to(args.device)
    guidance = Guidance(hold="paper" if way == PAPER else "soft", calls=args.calls)
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
    if way == TWICE:
        tune(damage, LEARNED, args)
        base = load_restorer(args.out / damage / LEARNED / "restorer.safetensors")
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
        precision=args.precision,
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
    _write_json(folder / "figures.json", figures)


def measure_base(damage: str, args: argparse.Namespace) -> None:
    """The figures of the damaged faces and of what the base makes of them."""
    file = args.out / damage / "figures.json"
    if file.exists():
        return
    seen = evaluation_faces(args.data, args.out, damage, args.evaluated)
    base = restore_faces(seen.given, load_restorer())
    _write_json(file, {"damaged": measure(seen.given, seen), "base": measure(base, seen)})


def measure(restored: Tensor, faces: Faces) -> dict[str, object]:
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


def _table(content: dict[str, Any]) -> Table:
    columns = tuple(Column(**column) for column in content["columns"])
    return Table(tuple(content["names"]), columns, content["values"])


def tabulate(args: argparse.Namespace) -> str:
    """OUT/table.md, table.json and the grids, of all the parts that are done."""
    lines = ["Marked against the base, or the guess, where the paired difference exceeds two "]
    lines[0] += "standard errors: ▲ better, ▼ worse.\n"
    means: dict[str, dict[str, object]] = {}
    for damage in args.damages:
        if not (file := args.out / damage / "figures.json").exists():
            continue
        measured = {name: _table(table) for name, table in json.loads(file.read_text()).items()}
        tuning: dict[str, Table] = {}
        for way in args.ways:
            if (file := args.out / damage / way / "figures.json").exists():
                done = json.loads(file.read_text())
                note = "" if done["improved"] else ", no better by its own score"
                name = f"tuned, {way} (step {done['best step']}{note})"
                measured[name] = _table(done["restored"])
                tuning.setdefault("guess", _table(done["guess"]))
                tuning[f"pseudo target, {way}"] = _table(done["target"])
        lines += [f"## {damage}\n", *markdown(measured, measured["base"])]
        if tuning:
            lines += ["Of the tuning faces:\n", *markdown(tuning, tuning["guess"])]
        means[damage] = {
            name: {column.key: table.mean(column) for column in table.columns}
            for name, table in (measured | tuning).items()
        }
        write_photo(args.out / f"{damage}.png", Photo(draw(damage, args)))
    text = "\n".join(lines)
    _write_json(args.out / "table.json", means)
    with atomic_path(args.out / "table.md") as path:
        path.write_text(text, encoding="utf-8")
    return text


def markdown(tables: dict[str, Table], base: Table) -> list[str]:
    titles = [column.title for column in base.columns]
    lines = [
        f"| {len(base.names)} faces | {' | '.join(titles)} |",
        "|---" + "|---:" * len(titles) + "|",
    ]
    for name, table in tables.items():
        cells = [
            f"{column.shown(table.mean(column))} {_mark(table, base, column)}".strip()
            for column in base.columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _mark(table: Table, base: Table, column: Column) -> str:
    """Whether a mean differs surely from the base's, face by face."""
    gains = torch.tensor(table.values[column.key]) - torch.tensor(base.values[column.key])
    gains = gains[gains.isfinite()] * column.sign
    if len(gains) < 2 or gains.mean().abs() <= 2 * gains.std() / math.sqrt(len(gains)):
        return ""
    return "▲" if gains.mean() > 0 else "▼"


def draw(damage: str, args: argparse.Namespace) -> Tensor:
    """A row for each of some faces: damaged, by the base, by each tuned restorer, and clean."""
    seen = evaluation_faces(args.data, args.out, damage, args.evaluated)
    shown = torch.linspace(0, len(seen.given) - 1, min(args.shown, len(seen.given))).long()
    given = seen.given[shown]
    columns = {"damaged": given, "base": restore_faces(given, load_restorer())}
    for way in args.ways:
        file = args.out / damage / way / "restorer.safetensors"
        if file.exists():
            columns[f"tuned, {way}"] = restore_faces(given, load_restorer(file))
    if seen.clean is not None:
        columns["clean"] = seen.clean[shown]
    cells = [faces[i] for i in range(len(shown)) for faces in columns.values()]
    return sheet(cells, column_labels=list(columns), title=damage)


def in_order(faces: Faces, names: Sequence[str]) -> Faces:
    """The tuning faces in the order of their pairs, whose sources end in their numbers."""
    order = [int(name.rpartition(" ")[2]) - 1 for name in names]
    return Faces(faces.given[order], None if faces.clean is None else faces.clean[order])


def _written(images: Tensor) -> Tensor:
    """Rounded as in a file of 8 bits."""
    return from_uint8(to_uint8(images))


def _write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as path:
        path.write_text(json.dumps(content), encoding="utf-8")


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
    parser.add_argument("--clean", type=int, default=96, help="clean faces of other people")
    parser.add_argument("--identity", type=float, default=PRESETS["quick"].identity)
    parser.add_argument("--precision", choices=PRECISIONS, default=PRESETS["quick"].precision)
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shown", type=int, default=8, help="faces in a grid")
    args = parser.parse_args(words)
    names = ["table", *(f"{one}/{other}" for one in args.damages for other in args.ways)]
    if args.only not in (None, *names):
        parser.error(f"--only is one of {names}")
    return args


def check_same(args: argparse.Namespace) -> None:
    """Writes down with what OUT is made, so that no table mixes several.

    Raises:
        SystemExit: if OUT was begun with something else.
    """
    names = "faces steps evaluated calls clean identity precision seed".split()
    wanted = {
        **{name: getattr(args, name) for name in names},
        "prior": load_prior(args.prior).sha256,
    }
    file = args.out / "settings.json"
    if not file.exists():
        _write_json(file, wanted)
    elif (begun := json.loads(file.read_text())) != wanted:
        raise SystemExit(f"{args.out} was begun with {begun}, and {wanted} came. Name another OUT.")


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
