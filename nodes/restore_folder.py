"""The node that restores a folder of photographs, file by file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..bfr.choices import EXISTING
from ..bfr.errors import FaceRestorationError, InputError
from ..bfr.faces.identity import LIMIT
from ..bfr.faces.person import Person
from ..bfr.files.sources import Source, find_sources, plan_targets, unread_files
from ..bfr.files.whole import prepare_folders
from ..bfr.restore.photo_file import restore_file
from ..bfr.restore.settings import RestoreSettings
from ..bfr.restore.summary import Count, summary_of_many
from ..bfr.restore.upscale import Upscaler
from ..bfr.runtime.progress import within
from . import memory, schemas
from .chain import ChainInputs, Networks, load_networks, load_person
from .chain_inputs import (
    background_inputs,
    doubtful_input,
    enlarge_inputs,
    keep_person_input,
    network_inputs,
    paste_inputs,
    person_inputs,
    recognizer_input,
    restore_inputs,
    upscaler_input,
)
from .folders import place_below, stamp, user_folder
from .in_front import keep_in_front_input
from .progress import progress

_UNIT = 100  # of progress for each photograph
_KEEP_PERSON = 0.5  # of a prompt that does not name it: the node had it from the beginning


def result_folder(name: str) -> Path:
    """The folder, inside ComfyUI's output folder, that results go to.

    Raises:
        InputError: if the name would lead out of it, or no folder can have it.
    """
    root = Path(folder_paths.get_output_directory()).resolve()
    folder = place_below(root, name.strip())
    if folder is None or not folder.resolve().is_relative_to(root):
        raise InputError(
            f"Results must go to a folder below {root}, got {name!r}. Name one such as restored or "
            "albums/1950s."
        )
    return folder


class RestoreFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_RestoreFolder",
            display_name="Restore Folder",
            category=schemas.RESTORE,
            description="Restores every photograph of a folder, one after the other, into a "
            "folder of results. Each keeps its name, format, colour profile and metadata; one "
            "that is not changed is copied. Cancel at any time: what is done is kept, and the "
            "next run does the rest.",
            search_aliases=["batch restore", "folder of photos", "restore album", "bulk"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "folder",
                    display_name="folder",
                    default="",
                    placeholder="folder of damaged photographs",
                    tooltip="The folder of the photographs, sub-folders included. A name in "
                    "ComfyUI's input folder, or a path within its input, output, models or "
                    "datasets folder.",
                ),
                io.String.Input(
                    "result_name",
                    display_name="results",
                    default="restored",
                    tooltip="The folder, inside ComfyUI's output folder, that results go to. "
                    "Originals are never changed.",
                ),
                *restore_inputs(),
                io.Combo.Input(
                    "existing",
                    display_name="existing results",
                    options=list(EXISTING),
                    default="skip",
                    tooltip="What to do about results that exist. skip: keep them and make the "
                    "others. overwrite: make all of them again. refuse: stop before starting.",
                    advanced=True,
                ),
                schemas.score_input(advanced=True),
                schemas.min_size_input(advanced=True),
                *paste_inputs(),
                *network_inputs(),
                keep_person_input(),
                *enlarge_inputs("auto"),
                doubtful_input(),
                upscaler_input(),
                *background_inputs(),
                keep_in_front_input(),
                recognizer_input(),
                *person_inputs("restores"),
            ],
            outputs=[
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was found in each photograph, and what failed; show it with "
                    "Preview as Text.",
                ),
                io.String.Output(
                    "result_folder", display_name="folder", tooltip="Where the results are."
                ),
                io.Int.Output(
                    "face_count", display_name="count", tooltip="Faces that were restored."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder, result_name, **others):
        """Changes with the photographs and with the results, so that lost ones are made again."""
        paths = [user_folder(folder or ""), result_folder(result_name) if result_name else None]
        return stamp(*(path for path in paths if path is not None and path.is_dir()))

    @classmethod
    def execute(
        cls,
        folder,
        result_name,
        existing,
        restorer=None,
        detector=None,
        parser=None,
        upscaler=None,
        doubtful=False,
        background=0.0,
        cleaner=None,
        person=None,
        person_limit=LIMIT,
        **chain,
    ) -> io.NodeOutput:
        photographs, out = user_folder(folder), result_folder(result_name)
        if photographs is None:
            raise InputError(
                "folder must name where the damaged photographs are, got nothing. Fill it in."
            )
        if existing not in EXISTING:
            raise InputError(f"existing must be one of {', '.join(EXISTING)}, got {existing!r}.")
        targets = plan_targets(find_sources([photographs], out), out, existing)
        unread = [
            f"{path}: left out: a link, closed or of a format that is not read"
            for path in unread_files([photographs], out)
        ]
        prepare_folders(out, targets.values())
        inputs = ChainInputs(**{"keep_person": _KEEP_PERSON, **chain})
        settings = inputs.settings(RestoreSettings, doubtful=doubtful, background=background)
        networks = load_networks(detector, restorer, parser, upscaler, inputs)
        cleaner = memory.load_cleaner(cleaner) if background else None
        wanted = load_person(person, person_limit, networks)
        lines, done = restore_all(
            targets, settings, networks, cleaner, wanted, existing == "overwrite"
        )
        told = summary_of_many(done, len(targets) - len(done))
        head = f"{told}. Results are in {out}."
        return io.NodeOutput(
            "\n".join([head, *lines, *unread]), str(out), sum(x.faces for x in done)
        )


def restore_all(
    targets: Mapping[Source, Path],
    settings: RestoreSettings,
    networks: Networks,
    cleaner: Upscaler | None,
    person: Person | None,
    overwrite: bool,
) -> tuple[list[str], list[Count]]:
    """Restores photographs one after the other; one that cannot be restored stops no other.

    Returns:
        A line for each photograph, and what was done to those that did not fail.
    """
    lines: list[str] = []
    counts: list[Count] = []
    on_step = progress()
    for number, (source, target) in enumerate(targets.items()):
        part = within(on_step, number * _UNIT, (number + 1) * _UNIT, len(targets) * _UNIT)
        try:
            done = restore_file(
                source.path,
                target,
                settings=settings,
                on_step=part,
                cleaner=cleaner,
                person=person,
                overwrite=overwrite,
                **networks,
            )
        except FaceRestorationError as error:
            lines.append(f"{source.name}: failed: {error}")
            continue
        counts.append(done.count)
        lines.append(f"{source.name}: {done.told}")
    return lines, counts
