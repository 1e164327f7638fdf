"""The command ``finetune``: tunes a restorer to a set of pseudo targets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import (
    AUTO,
    EMBEDDED,
    add_detector,
    add_device,
    add_score,
    find_weights,
    number,
    pick_device,
)
from .evaluation import faces_to_evaluate
from .recipe import add_recipe, recipe_of
from .report import DONE, SOME_FAILED, say, tell, tell_all

if TYPE_CHECKING:
    import torch

    from ..damage.learned import LearnedDamage
    from ..faces.identity import Identity
    from ..finetune.loop import Finetuned
    from ..pairs.folder import PairSet
    from ..runtime.processes import Share

RESULT = "restorer.safetensors"  # as in bfr.finetune.run_folder, which is slow to import


def add_finetune(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``finetune``."""
    parser.set_defaults(command=finetune)
    add = parser.add_argument
    add("pairs", type=Path, metavar="PAIRS", help="the set's folder, made by the command targets")
    add(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="RUN",
        help=f"the run's own folder, empty at first; the result is {RESULT} in it",
    )
    add(
        "--restorer",
        default=EMBEDDED,
        metavar="NAME|FILE",
        help="what to tune (%(default)s)",
    )
    add(
        "--minutes",
        type=number(0.1, 1e5),
        help="how long in minutes instead: the steps that fit are timed first",
    )
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="resume the run in RUN, or start again in its place (resume where there is one)",
    )
    add(
        "--evaluation",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="damaged photographs, or folders of them, whose faces are scored along with the pairs "
        "held back",
    )
    add(
        "--clean",
        type=Path,
        metavar="FOLDER",
        help="clean aligned faces for the discriminator (the pseudo targets)",
    )
    add(
        "--learn-damage",
        action="store_true",
        help="also train on the clean faces, with the damage that the pairs show put on them",
    )
    add(
        "--keep-worse",
        action="store_true",
        help="write the last restorer even if the base scored better",
    )
    add(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="write it as an ONNX file too, which FaceFusion and ReActor load",
    )
    add("--half", action="store_true", help="write it in half precision, a file of half the size")
    for name, what in (("--validate-every", "scored"), ("--save-every", "saved")):
        add(
            name,
            type=number(1, 10**7, int),
            default=100,
            metavar="STEPS",
            help=f"how often it is {what} (%(default)s)",
        )
    add(
        "--recognizer",
        default=EMBEDDED,
        metavar="NAME|FILE",
        help="the face recognition network that judges whether faces stay the same people: "
        "embedded, auraface or another .onnx file of the ArcFace family (%(default)s)",
    )
    add("--tensorboard", action="store_true", help="also write the log for TensorBoard")
    add_recipe(parser)
    add_detector(parser)
    add_score(parser)
    add_device(parser)


def finetune(options: argparse.Namespace) -> int:
    """Tunes a restorer, or resumes tuning it, and writes it if it became better."""
    from ..pairs.folder import read_pairs

    pairs = read_pairs(options.pairs)  # refuses a wrong folder before anything is loaded

    if options.onnx is not None:
        _check_onnx(options.onnx)

    from ..finetune.loop import finetune as run
    from ..finetune.plan import make_plan
    from ..finetune.run_folder import RunFolder
    from ..restore.load import load_restorer
    from ..runtime.processes import launched_share

    share = launched_share(cpu=options.device == "cpu")
    device = pick_device((share.device if options.device == AUTO else None) or options.device)
    restorer = load_restorer(find_weights("restorer", options.restorer))
    settings = recipe_of(options, restorer)
    damage = _damage(options, pairs) if options.learn_damage else None
    _check_minutes(options, share)
    settings, words = make_plan(
        restorer,
        pairs,
        settings,
        minutes=options.minutes or 0.0,
        state=None if options.resume is False else RunFolder(options.out, writes=False).read(),
        alone=share.count == 1,
        clean=options.clean,
        damage=damage,
        device=device,
        validate_every=options.validate_every,
    )
    if share.rank == 0:
        say(words)
    evaluation = faces_to_evaluate(options, restorer, pairs, device) if options.evaluation else None
    try:
        tuned = run(
            restorer,
            pairs,
            options.out,
            settings,
            clean=options.clean,
            damage=damage,
            evaluation=evaluation,
            device=device,
            resume=options.resume,
            keep_worse=options.keep_worse,
            validate_every=options.validate_every,
            save_every=options.save_every,
            share=share,
            say=say if share.rank == 0 else None,
            tensorboard=options.tensorboard,
            judge=_judge(options, device),
        )
    except KeyboardInterrupt:
        if share.rank == 0:
            say(f"The state is saved in {options.out}: run the same again to resume.")
        raise
    accepted = tuned.improved or options.keep_worse
    if share.rank == 0:
        _write(options, tuned, accepted)
    return DONE if accepted and tuned.finished else SOME_FAILED


def _judge(options: argparse.Namespace, device: torch.device) -> Identity | None:
    """The network that says whether faces stay the same people; None for the embedded one."""
    if options.recognizer == EMBEDDED:
        return None
    from ..faces.identity import load_identity

    return load_identity(find_weights("identity", options.recognizer)).to(device)


def _check_onnx(path: Path) -> None:
    """Refuses a file that cannot be written before anything is trained."""
    from ..restore.onnx_export import check_replaceable

    if path.suffix != ".onnx":
        raise InputError(f"--onnx must name a file that ends in .onnx, got {path}. Rename it.")
    check_replaceable(path)


def _damage(options: argparse.Namespace, pairs: PairSet) -> LearnedDamage:
    """The damage that the pairs show, in words."""
    from ..pairs.damage import damage_of

    if options.clean is None:
        raise InputError(
            "--learn-damage must have clean faces to put the damage on, got none. Name a folder of "
            "clean aligned faces: --clean FOLDER"
        )
    damage = damage_of(pairs)
    say(f"The pairs' damage: {damage.describe()}")
    return damage


def _check_minutes(options: argparse.Namespace, share: Share) -> None:
    """Refuses minutes along with steps, or with processes that would each time others."""
    if options.minutes is None:
        return
    if options.steps is not None:
        raise InputError("One of --steps and --minutes must be given, got both. Leave one out.")
    if share.count > 1:
        raise InputError(
            f"--minutes must be used with one process, got {share.count}, each of which would "
            "time other steps. Give --steps."
        )


def _write(options: argparse.Namespace, tuned: Finetuned, accepted: bool) -> None:
    """Writes the result, or deletes an earlier one of this run if the base is better."""
    from ..finetune.save import save_restorer
    from ..restore.onnx_export import export_onnx

    path = options.out / RESULT  # the run made sure that what lies there is its own
    if accepted:
        save_restorer(path, tuned.restorer, tuned.about, half=options.half)
        if options.onnx is not None:
            export_onnx(options.onnx, tuned.restorer, tuned.about)
    else:
        path.unlink(missing_ok=True)
    tell_all(tuned.report)
    if accepted:
        tell(path)
        if options.onnx is not None:
            tell(options.onnx)
    else:
        say(f"No {RESULT} is written: keep using the base, or choose --keep-worse.")
