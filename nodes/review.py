"""The nodes for sets of pairs that exist: load one, review it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..bfr.errors import BusyError, InputError
from ..bfr.faces.retinaface import load_detector
from ..bfr.pairs.contact_sheet import PAIRS_A_SHEET, describe, lay_out_pairs, read_images
from ..bfr.pairs.folder import REJECTED, PairSet, read_pairs
from ..bfr.pairs.pair import Pair
from ..bfr.pairs.review import check_pairs, mark_pairs
from . import memory, schemas
from .convert import to_comfy
from .folders import stamp, user_folder
from .progress import progress
from .sets import list_sets, set_folder, summary
from .sheet import show

NONE_YET = "none yet"


class LoadTrainingPairs(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        names = list_sets() or [NONE_YET]
        return io.Schema(
            node_id="BFR_LoadTrainingPairs",
            display_name="Load Training Pairs",
            category=schemas.TUNE,
            description="Opens a set that Build Training Pairs or the command line made.",
            search_aliases=["load dataset", "training set", "open pairs"],
            inputs=[
                io.Combo.Input(
                    "pairs_name",
                    display_name="name",
                    options=names,
                    default=names[0],
                    tooltip="The sets in ComfyUI's datasets folder.",
                ),
                io.String.Input(
                    "path",
                    display_name="path",
                    default="",
                    placeholder="as named above",
                    tooltip="The path of a pairs folder elsewhere, instead of the name: within "
                    "ComfyUI's input, output, models or datasets folder.",
                    advanced=True,
                ),
            ],
            outputs=[
                schemas.Pairs.Output(
                    "pairs", display_name="pairs", tooltip="For Review Training Pairs."
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="How many pairs there are."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, pairs_name, path):
        folder = user_folder(path or "") or (pairs_name and set_folder(pairs_name))
        return stamp(*folder.glob("*.jsonl")) if folder else ""

    @classmethod
    def execute(cls, pairs_name, path) -> io.NodeOutput:
        folder = user_folder(path)
        if folder is None and pairs_name == NONE_YET:
            raise InputError(
                "name must be a set of pairs, got none: there is none yet. Make one with Build "
                "Training Pairs."
            )
        pairs = read_pairs(folder or set_folder(pairs_name))
        return io.NodeOutput(pairs, summary(pairs))


def words(text: str) -> list[str]:
    """The words between the commas, spaces and line breaks of a text."""
    return text.replace(",", " ").split()


def remarks(pairs: PairSet) -> str:
    """The set, and a line for each pair that is flagged or rejected."""
    lines = [summary(pairs)]
    for number, pair in enumerate(pairs.pairs, 1):
        if pair.status == REJECTED:
            lines.append(f"{number} {pair.name}: rejected {pair.reason}")
        elif pair.flags:
            lines.append(f"{number} {pair.name}: {', '.join(pair.flags)}")
    return "\n".join(lines)


def about(pairs: PairSet, shown: Sequence[Pair]) -> list[dict[str, Any]]:
    """The facts that the editor shows of each pair on the sheet."""
    numbers = {pair.name: number for number, pair in enumerate(pairs.pairs, 1)}
    return [
        {
            "name": pair.name,
            "number": numbers[pair.name],
            "rejected": pair.status == REJECTED,
            "hint": ", ".join([*pair.flags, describe(pair)]),
        }
        for pair in shown
    ]


def rejected_among(pairs: Sequence[Pair]) -> int:
    """The number of those that are rejected."""
    return sum(pair.status == REJECTED for pair in pairs)


class ReviewTrainingPairs(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_ReviewTrainingPairs",
            display_name="Review Training Pairs",
            category=schemas.TUNE,
            description="Lays a set of pairs out on contact sheets with their metrics, flags "
            "what stands out, and marks the pairs to leave out. Nothing is deleted.",
            search_aliases=["contact sheet", "curate dataset", "reject pairs", "training set"],
            is_output_node=True,
            has_intermediate_output=True,
            inputs=[
                schemas.Pairs.Input(
                    "pairs",
                    display_name="pairs",
                    tooltip="From Build Training Pairs or Load Training Pairs.",
                ),
                io.String.Input(
                    "rejected",
                    display_name="rejected",
                    default="",
                    placeholder="3, 7-9",
                    tooltip="The pairs to leave out of training, by their numbers on the contact "
                    "sheet or by name. The marks are saved with the set.",
                ),
                io.String.Input(
                    "kept",
                    display_name="kept",
                    default="",
                    placeholder="4",
                    tooltip="Undoes rejections. A pair kept by hand is not rejected for its flags.",
                ),
                io.Boolean.Input(
                    "reject_flagged",
                    display_name="reject flagged",
                    default=False,
                    tooltip="Also leaves out every flagged pair: drifted likeness, moved "
                    "features, grain and other artefacts, compared with the rest of the set.",
                ),
                io.Int.Input(
                    "page",
                    display_name="page",
                    default=1,
                    min=1,
                    max=100000,
                    tooltip=f"The contact sheet to show; each has {PAIRS_A_SHEET} pairs.",
                ),
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="Measures how far eyes, nose and mouth moved. Not connected: the "
                    "embedded default.",
                ),
            ],
            outputs=[
                schemas.Pairs.Output(
                    "reviewed_pairs",
                    display_name="pairs",
                    tooltip="The set with its marks, for training.",
                ),
                io.Image.Output(
                    "contact_sheet",
                    display_name="contact sheet",
                    tooltip="Degraded face, guess and pseudo target of each pair, with metrics. "
                    "Red frame: rejected; amber frame: flagged.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What is flagged or rejected; show it with Preview as Text.",
                ),
            ],
        )

    @classmethod
    def execute(cls, pairs, rejected, kept, reject_flagged, page, detector=None) -> io.NodeOutput:
        detector = detector or memory.manage_detector(load_detector())
        memory.load(detector)
        busy = ""
        try:
            check_pairs(pairs.folder, detector, on_step=progress())
        except BusyError as error:  # it is being built: verdicts can be given all the same
            busy = f"\nNew pairs are not measured now: {error}"
        reviewed = mark_pairs(
            pairs.folder, reject=words(rejected), keep=words(kept), reject_flagged=reject_flagged
        )
        finished = [pair for pair in reviewed.pairs if pair.complete]
        pages = max(1, -(-len(finished) // PAIRS_A_SHEET))
        if page > pages:
            raise InputError(f"page must be at most {pages}, the last contact sheet, got {page}.")
        shown = finished[(page - 1) * PAIRS_A_SHEET : page * PAIRS_A_SHEET]
        images = read_images(reviewed, shown)
        return io.NodeOutput(
            reviewed,
            to_comfy(lay_out_pairs(reviewed, shown, images).picture),
            remarks(reviewed) + busy,
            ui=show(
                lay_out_pairs(reviewed, shown, images, across=1, verdicts=False),
                about(reviewed, shown),
                page=page,
                pages=pages,
                count=len(finished),
                rejected_elsewhere=rejected_among(finished) - rejected_among(shown),
            ),
        )
