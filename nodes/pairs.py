"""The node that builds sets of pseudo targets, and the folders of the sets."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..bfr.errors import InputError
from ..bfr.faces.retinaface import load_detector
from ..bfr.files.sources import find_sources, unread_files
from ..bfr.pairs.build import BuildReport, PairSettings, build_pairs, build_pairs_from_crops
from ..bfr.pairs.folder import MANIFEST, PairSet
from ..bfr.prior.guidance import Guidance
from ..bfr.prior.prior import load_prior
from ..bfr.records import counted
from ..bfr.restore.restorer import load_restorer
from . import memory, schemas
from .chain import restore_inputs
from .convert import to_core
from .folders import find_folders, place_below, stamp, user_folder

log = logging.getLogger(__name__)

KEY = "datasets"  # ComfyUI's folder of training data
_built: set[str] = set()  # the sets that were built in this session and are still there
_deleted: Counter[str] = Counter()  # how often each of them was not


def list_sets() -> list[str]:
    """The pairs folders among ComfyUI's training data, by their names."""
    manifests = {f"{MANIFEST}.jsonl", f"{MANIFEST}.part0.jsonl"}
    return sorted(find_folders([KEY], lambda _, files: bool(files & manifests)))


def set_folder(name: str) -> Path:
    """The folder of a set: where one of that name is, else where a new one belongs.

    Raises:
        InputError: if the name would lead out of ComfyUI's training data.
    """
    roots = folder_paths.get_folder_paths(KEY)
    folders = [place_below(root, name.strip()) for root in roots]
    inside = [folder for folder in folders if folder is not None]
    if len(inside) < len(folders):
        raise InputError(
            f"A set of pairs must have a name such as family_album or albums/1950s, for a folder "
            f"below {roots[0]}, got {name!r}."
        )
    return next((folder for folder in inside if folder.is_dir()), inside[0])


def summary(pairs: PairSet) -> str:
    """How many pairs a set has, and where it is."""
    total, kept = len(pairs.pairs), len(pairs.kept)
    unfinished = sum(not pair.complete for pair in pairs.pairs)
    counts = f"{kept} to train with, {total - kept - unfinished} rejected"
    return f"{counted(total, 'pair')} ({counts}, {unfinished} unfinished) in {pairs.folder}"


def report(built: BuildReport, unread: Sequence[Path] = ()) -> str:
    """The set, what was done for it now, and what was left out and why."""
    done = (
        f"photographs searched {built.searched}, guesses made {built.guessed}, "
        f"targets sampled {built.sampled}, pairs removed {built.removed}"
    )
    lines = [summary(built.pairs), f"now: {done}"]
    lines += [f"no face: {path}" for path in built.faceless]
    lines += [f"the same as {other}, taken once: {path}" for path, other in built.duplicates]
    lines += [f"left out, for its format is not read: {path}" for path in unread]
    lines += [f"failed: {where}: {problem}" for where, problem in built.problems]
    return "\n".join(lines)


class BuildTrainingPairs(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_BuildTrainingPairs",
            display_name="Build Training Pairs",
            category=schemas.TUNE,
            description="Builds a set for fine-tuning a restorer, from damaged photographs "
            "alone: finds the faces, restores each to a first guess, and samples its pseudo "
            "target. Saved as it grows: an interrupted set resumes where it stopped.",
            search_aliases=["training set", "dataset", "pseudo targets", "fine-tune data"],
            is_output_node=True,
            inputs=[
                schemas.Prior.Input(
                    "prior",
                    display_name="prior",
                    optional=True,
                    tooltip="From Load Prior. Not connected: the embedded default, unless there "
                    "are targets.",
                ),
                io.String.Input(
                    "pairs_name",
                    display_name="name",
                    default="my_photographs",
                    tooltip="The set's folder in ComfyUI's datasets folder. An existing set is "
                    "resumed: only what is missing or changed is made.",
                ),
                io.String.Input(
                    "folder",
                    display_name="folder",
                    default="",
                    placeholder="folder of damaged photographs",
                    tooltip="The folder of the photographs, sub-folders included: a name in "
                    "ComfyUI's input folder, or a path within its input, output, models or "
                    "datasets folder. Empty if crops are connected.",
                ),
                *restore_inputs()[:1],
                *schemas.guidance_inputs(),
                schemas.score_input(advanced=True),
                schemas.min_size_input(advanced=True),
                io.Int.Input(
                    "crop_size",
                    display_name="crop size",
                    default=0,
                    min=0,
                    max=2048,
                    tooltip="Side in pixels of the pairs' faces. 0 takes the restorer's own "
                    "size, which is right for fine-tuning it.",
                    advanced=True,
                ),
                io.String.Input(
                    "guess_folder",
                    display_name="guess folder",
                    default="",
                    placeholder="made by the restorer",
                    tooltip="Guesses made by another tool instead of the restorer: its results "
                    "for the same photographs, under the same names.",
                    advanced=True,
                ),
                schemas.sampled_at_once_input(),
                *schemas.slider_inputs(),
                io.String.Input(
                    "target_folder",
                    display_name="target folder",
                    default="",
                    placeholder="sampled from the prior",
                    optional=True,
                    tooltip="Targets made by any other tool instead of the prior: its pictures of "
                    "the same photographs, under the same names.",
                    advanced=True,
                ),
                io.Image.Input(
                    "crops",
                    display_name="crops",
                    optional=True,
                    tooltip="Damaged faces from Align Faces, instead of a folder.",
                ),
                io.Image.Input(
                    "guesses",
                    display_name="guesses",
                    optional=True,
                    tooltip="The same crops restored by any node, instead of the restorer.",
                ),
                io.UpscaleModel.Input(
                    "restorer",
                    display_name="restorer",
                    optional=True,
                    tooltip="Makes the first guesses; best the one that will be fine-tuned. Not "
                    "connected: the embedded default, unless there are guesses.",
                ),
                schemas.Detector.Input(
                    "detector",
                    display_name="detector",
                    optional=True,
                    tooltip="From Load Face Detector. Not connected: the embedded default.",
                ),
                io.Image.Input(
                    "targets",
                    display_name="targets",
                    optional=True,
                    tooltip="The same crops repainted by any diffusion model, such as from VAE "
                    "Decode, instead of the prior. Guidance then has no effect.",
                ),
            ],
            outputs=[
                schemas.Pairs.Output(
                    "pairs", display_name="pairs", tooltip="For Review Training Pairs."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was made, and what was left out and why; show it with Preview "
                    "as Text.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, pairs_name, folder, guess_folder, target_folder="", **others):
        """Changes with the photographs, and when the set was deleted."""
        folders = [user_folder(text or "") for text in (folder, guess_folder, target_folder)]
        stamps = [stamp(path) for path in folders if path and path.is_dir()]
        if pairs_name in _built and pairs_name not in list_sets():
            _built.remove(pairs_name)
            _deleted[pairs_name] += 1
        return f"{_deleted[pairs_name]} {' '.join(stamps)}"

    @classmethod
    def execute(
        cls,
        pairs_name,
        folder,
        fidelity,
        score,
        min_size,
        crop_size,
        guess_folder,
        batch_size,
        prior=None,
        target_folder="",
        crops=None,
        guesses=None,
        restorer=None,
        detector=None,
        targets=None,
        **guidance,
    ) -> io.NodeOutput:
        photographs, guessed = user_folder(folder), user_folder(guess_folder)
        if (photographs is None) == (crops is None):
            raise InputError(
                f"The faces must come from a folder or as crops, got "
                f"{'neither' if crops is None else 'both'}. Fill in folder or connect crops."
            )
        if (crops is None and guesses is not None) or (crops is not None and guessed is not None):
            raise InputError(
                "Guesses as images must go with crops, and a guess folder with a folder, got them "
                "crossed. Connect or fill in the other."
            )
        made = user_folder(target_folder)
        if (crops is None and targets is not None) or (crops is not None and made is not None):
            raise InputError(
                "Targets as images must go with crops, and a target folder with a folder, got "
                "them crossed. Connect or fill in the other."
            )
        outside = targets is not None or made is not None
        if prior is not None and outside:
            raise InputError(
                "Targets must come from the prior or from elsewhere, got both. Disconnect one."
            )
        if prior is None and not outside:
            prior = memory.manage_prior(load_prior())
        settings = PairSettings(
            score=score,
            min_size=min_size,
            size=crop_size or None,
            fidelity=fidelity,
            sample=None
            if prior is None
            else Guidance(**guidance, batch_size=batch_size).settings(prior.prior),
        )
        if restorer is None and guesses is None and guessed is None:
            restorer = load_restorer()
        restorer = None if restorer is None else memory.manage_restorer(restorer)
        detector = detector or memory.manage_detector(load_detector())
        needed = 0 if prior is None else memory.sampling_bytes(prior.prior, batch_size)
        memory.load(detector, prior, restorer, faces=settings.batch_size, needed=needed)
        out = set_folder(pairs_name)
        if photographs is not None:
            built = build_pairs(
                find_sources([photographs], out),
                out,
                detector,
                restorer,
                None if prior is None else prior.prior,
                settings,
                guesses=guessed,
                targets=made,
                say=log.info,
                on_step=memory.progress(),
            )
        else:
            assert crops is not None
            built = build_pairs_from_crops(
                to_core(crops, "crops")[0],
                out,
                restorer,
                None if prior is None else prior.prior,
                settings,
                targets=None if targets is None else to_core(targets, "targets")[0],
                guesses=None if guesses is None else to_core(guesses, "guesses")[0],
                detector=detector,
                say=log.info,
                on_step=memory.progress(),
            )
        _built.add(pairs_name)
        unread = unread_files([photographs], out) if photographs is not None else ()
        return io.NodeOutput(built.pairs, report(built, unread))
