"""The command ``restore``: photographs in, restored photographs out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..files.reports import check_report
from ..files.sources import Source, find_sources, plan_targets
from ..files.whole import prepare_folders
from ..records import counted
from .arguments import add_at_once, at_once_of
from .report import Faces, earlier_entries, exit_code, process, say, say_unread
from .restoring import add_restoring, load_networks, settings_of


def add_restore(parser: argparse.ArgumentParser) -> None:
    """The options of the command ``restore``."""
    add_restoring(parser)
    add_at_once(parser)
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
    earlier = earlier_entries(options.report, skipped)
    prepare_folders(options.out, targets.values())

    say(f"Loading the networks for {counted(len(targets), 'photograph')} …")

    from ..restore.photo import RestoreSettings
    from ..restore.photo_file import restore_file

    networks, settings = load_networks(options), RestoreSettings(**settings_of(options))
    people: dict[Path, list[dict[str, Any]]] = {}

    def work(source: Source) -> Faces:
        done = restore_file(source.path, targets[source], settings=settings, **networks)
        people[source.path] = done.people.entries()
        return done.faces

    at_once = at_once_of(options, len(targets))
    done = process(list(targets), work, say, options.report, earlier, people, at_once=at_once)
    return exit_code(done)
