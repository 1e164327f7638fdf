"""The command ``restore``: photographs in, restored photographs out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import AUTO
from ..errors import InputError
from ..files.reports import check_report
from ..files.sources import Source, find_sources, plan_targets
from ..files.whole import prepare_folders
from ..records import counted
from .arguments import add_at_once, add_numbering, add_ray, fraction, pick_device
from .attempts import Found, Job, Work, attempts
from .parts import Parts
from .report import earlier_entries, exit_code, process, say, say_unread
from .restoring import add_restoring, load_networks, load_person, settings_of

if TYPE_CHECKING:
    from ..restore.upscale import Upscaler


def add_restore(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``restore``."""
    add_restoring(parser)
    parser.add_argument(
        "--background",
        type=fraction,
        default=0.0,
        help="how much noise, grain and JPEG are taken out of the whole photograph (%(default)s)",
    )
    parser.add_argument(
        "--cleaner", type=Path, metavar="FILE", help="a 1× network for --background"
    )
    parser.add_argument(
        "--scratches",
        type=mask_or_auto,
        metavar="auto|MASK",
        help="what to repair before the faces are restored. auto: scratches, folds and dust that a "
        "network finds; else a mask, white on black and as large as the photograph, or a folder of "
        "masks with the photographs' names",
    )
    parser.add_argument(
        "--doubtful",
        action="store_true",
        help="also restore what is probably not a face; otherwise it is left alone",
    )
    parser.add_argument(
        "--faces",
        type=numbers,
        metavar="1,3",
        help="restore only these, by the numbers that detect prints; doubtful or not",
    )
    add_numbering(parser)
    add_at_once(parser)
    add_ray(parser)
    parser.set_defaults(command=restore)


def restore(options: argparse.Namespace) -> int:
    """Restores photographs; one without a face is copied byte for byte."""
    sources = find_sources(options.paths, options.out)
    say_unread(options.paths, options.out)
    targets = plan_targets(sources, options.out, options.existing)
    skipped = [source for source in sources if source not in targets]
    for source in skipped:
        say(f"{source.path}: skipped, its result exists")
    if options.report is not None:
        check_report(options.report, [source.path for source in sources])
    if isinstance(options.scratches, Path):
        check_masks(options.scratches, sources)
    earlier = earlier_entries(options.report, skipped)
    prepare_folders(options.out, targets.values())

    say(f"Loading the networks for {counted(len(targets), 'photograph')} …")

    jobs = [Job(source, target) for source, target in targets.items()]
    parts = Parts(options.report) if options.ray and options.report else None
    done = attempts(options, jobs, load_restoring, parts)
    failed = process(sources, done, say, options.report, earlier)
    if parts is not None:
        parts.remove()
    return exit_code(failed)


def check_masks(place: Path, sources: Sequence[Source]) -> None:
    """Refuses masks that are missing, and one mask for several photographs.

    Raises:
        InputError: if there are such.
    """
    from ..files.masks import find_mask

    if not place.is_dir() and len(sources) > 1:
        raise InputError(
            f"--scratches must be a folder of masks for {len(sources)} photographs, got {place}. "
            "Name the masks as the photographs and give their folder."
        )
    if not any(find_mask(place, source.name) for source in sources):
        raise InputError(
            f"{place} must hold a mask with the name of a photograph, got none. Name the masks as "
            "the photographs."
        )


def load_restoring(options: argparse.Namespace) -> Work:
    """Loads the networks; restores a photograph of a job into its target."""
    from ..files.masks import find_mask
    from ..restore.photo_file import restore_file
    from ..restore.scratches import load_scratch_finder
    from ..restore.settings import RestoreSettings

    networks, cleaner = load_networks(options), load_cleaner_of(options)
    person = load_person(options, networks)
    settings = RestoreSettings(
        **settings_of(options),
        background=options.background,
        doubtful=options.doubtful,
        numbers=options.faces,
        numbering=options.numbering,
    )

    # A worker of a cluster may die between the result and its report, and the next does it again.
    overwrite = options.existing == "overwrite" or options.ray is not None
    place, finder = options.scratches, None
    if place == AUTO:
        finder = load_scratch_finder().to(networks["detector"].device)

    def work(job: Job) -> Found:
        assert job.target is not None
        done = restore_file(
            job.source.path,
            job.target,
            settings=settings,
            cleaner=cleaner,
            scratches=find_mask(place, job.source.name) if isinstance(place, Path) else finder,
            person=person,
            overwrite=overwrite,
            **networks,
        )
        return Found(done.faces, done.entries(), done.told)

    return work


def mask_or_auto(text: str) -> Path | str:
    """The type of --scratches."""
    return text if text == AUTO else Path(text)


def numbers(text: str) -> tuple[int, ...]:
    """The type of --faces."""
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"must be numbers such as 1,3, got {text}")
    return tuple(map(int, words))


def load_cleaner_of(options: argparse.Namespace) -> Upscaler | None:
    """The network that --background means; None for 0, which needs none."""
    if options.background == 0:
        return None
    from ..restore.background import load_background, load_cleaner

    device = pick_device(options.device)
    name = "the embedded network" if options.cleaner is None else options.cleaner.name
    say(f"The whole photograph is cleaned by {100 * options.background:.0f} % with {name}.")
    if options.cleaner is not None:
        return load_cleaner(options.cleaner).to(device)
    return load_background(precision=options.precision).to(device)
