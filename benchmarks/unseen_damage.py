"""The experiment that matters: tune the embedded restorer to damage it was not trained on.

    python -m benchmarks.unseen_damage DATA OUT [--faces 150] [--steps 500] ...
    python -m benchmarks.unseen_damage DATA OUT --only "real scans/paper"    one part of it
    python -m benchmarks.unseen_damage DATA OUT --only table                 what is there so far

DATA is the folder that the training recipes take. Each kind of damage is its own run: faces of
photographs to tune with, damaged alike (or scanned so), become pairs of pseudo targets; the
restorer is tuned to these, and base and tuned one restore other people's faces. As in the paper's
ablations the constraint is varied: "paper", suited to the prior; "full", to the last step; "none".
No clean original of the tuning faces is used, but the embedded prior has learned from some of
those to which camera noise is added here; the evaluation faces are new to all networks.

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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bfr.damage.degrade import degrade_faces
from bfr.faces.align import align_faces
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import load_detector
from bfr.faces.select import select_faces
from bfr.files.photos import Photo, read_photo, write_photo
from bfr.files.whole import atomic_path
from bfr.finetune.settings import PRESETS, adjusted
from bfr.image.sheets import sheet
from bfr.image.tensors import from_uint8, to_uint8
from bfr.pairs.build import PairSettings, build_pairs_from_crops
from bfr.pairs.folder import read_image, read_pairs
from bfr.prior.constraint import Constraint
from bfr.prior.prior import Prior, load_prior
from bfr.prior.settings import SampleSettings, for_prior
from bfr.quality.perceptual import load_distance
from bfr.quality.tables import Column, Table, measure_faces
from bfr.restore.restorer import load_restorer, restore_faces

SIZE = 256
SCANS = "real scans"
DAMAGES = ("camera noise ISO 1500", "camera noise ISO 3000", SCANS)
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "full": {"stop": 0},
    "none": {"strength": 0.0},
}
PAPER = Constraint()
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


def sampling(prior: Prior, constraint: str, args: argparse.Namespace) -> SampleSettings:
    """How pseudo targets are sampled: the paper's way, but for the calls and the ablation."""
    paper = Constraint(start=args.start, stop=args.stop, factor=args.factor)
    varied = replace(paper, **CONSTRAINTS[constraint])
    return for_prior(SampleSettings(varied, sampler="dpm-solver++", calls=args.calls), prior)


def tune(damage: str, constraint: str, args: argparse.Namespace) -> None:
    """One run: pairs, fine-tuning, the tuned restorer's file and its figures."""
    from bfr.finetune.loop import finetune
    from bfr.finetune.save import save_restorer

    folder = args.out / damage / constraint
    if (folder / "figures.json").exists():
        return
    base, prior, say = load_restorer(), load_prior(args.prior), _sayer(f"{damage}/{constraint}")
    prior.network.to(args.device)
    faces = tuning_faces(args.data, args.out, damage, args.faces)
    settings = PairSettings(sample=sampling(prior, constraint, args))
    build_pairs_from_crops(faces.given, folder / "pairs", base, prior, settings, say=say)
    pairs = read_pairs(folder / "pairs")
    recipe = adjusted(PRESETS["quick"], seed=args.seed, steps=args.steps)
    tuned = finetune(
        base,
        pairs,
        folder / "run",
        recipe,
        device=args.device,
        keep_worse=True,
        validate_every=max(1, args.steps // 10),
        say=say,
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
    for kind in ("guess", "target"):
        made = torch.cat([read_image(pairs.folder, kind, pair) for pair in pairs.kept])
        known = in_order(faces, [pair.source for pair in pairs.kept])
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
        for constraint in args.constraints:
            if (file := args.out / damage / constraint / "figures.json").exists():
                done = json.loads(file.read_text())
                note = "" if done["improved"] else ", no better by its own score"
                name = f"tuned, {constraint} (step {done['best step']}{note})"
                measured[name] = _table(done["restored"])
                tuning.setdefault("guess", _table(done["guess"]))
                tuning[f"pseudo target, {constraint}"] = _table(done["target"])
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
    for constraint in args.constraints:
        file = args.out / damage / constraint / "restorer.safetensors"
        if file.exists():
            columns[f"tuned, {constraint}"] = restore_faces(given, load_restorer(file))
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
        for constraint in args.constraints:
            if args.only in (None, f"{damage}/{constraint}"):
                yield damage, constraint


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
    parser.add_argument("--constraints", nargs="+", choices=CONSTRAINTS, default=[*CONSTRAINTS])
    parser.add_argument("--only", help='"DAMAGE/CONSTRAINT", or "table"')
    parser.add_argument("--prior", type=Path, help="a file; the embedded one if none is named")
    parser.add_argument("--calls", type=int, default=25, help="of the prior, a face")
    parser.add_argument(
        "--start", type=int, default=PAPER.start, help="for 512 px, as the next two"
    )
    parser.add_argument("--stop", type=int, default=PAPER.stop, help="as for 512 px")
    parser.add_argument("--factor", type=int, default=PAPER.factor, help="as for 512 px")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shown", type=int, default=8, help="faces in a grid")
    args = parser.parse_args(words)
    names = ["table", *(f"{one}/{other}" for one in args.damages for other in args.constraints)]
    if args.only not in (None, *names):
        parser.error(f"--only is one of {names}")
    return args


def check_same(args: argparse.Namespace) -> None:
    """Writes down with what OUT is made, so that no table mixes several.

    Raises:
        SystemExit: if OUT was begun with something else.
    """
    names = ("faces", "steps", "evaluated", "calls", "start", "stop", "factor", "seed")
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
    for damage, constraint in parts(args):
        measure_base(damage, args)
        tune(damage, constraint, args)
    print(tabulate(args))


if __name__ == "__main__":
    main()
