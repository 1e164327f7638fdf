"""The node that builds sets of training pairs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..bfr.choices import PAIRS_FREEDOM
from ..bfr.errors import InputError
from ..bfr.faces.retinaface import load_detector
from ..bfr.files.sources import find_sources, unread_files
from ..bfr.pairs.build import build_pairs, build_pairs_from_crops
from ..bfr.pairs.settings import PairSettings
from ..bfr.prior.guidance import Guidance
from ..bfr.prior.load import load_prior
from ..bfr.restore.load import load_restorer
from . import memory, schemas
from .chain_inputs import restore_inputs
from .convert import to_core
from .folders import stamp, user_folder
from .guidance import guidance_inputs, sampled_at_once_input, slider_inputs
from .progress import progress
from .sets import list_sets, report, set_folder

log = logging.getLogger(__name__)

_built: set[str] = set()  # the sets that were built in this session and are still there
_deleted: Counter[str] = Counter()  # how often each of them was not


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
                *guidance_inputs(),
                schemas.score_input(advanced=True),
                schemas.min_size_input(advanced=True),
                io.Int.Input(
                    "crop_size",
                    display_name="crop size",
                    default=0,
                    min=0,
                    max=2048,
                    tooltip="Side in pixels of the pairs' faces. 0 uses the restorer's own size, "
                    "which is right for fine-tuning it.",
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
                sampled_at_once_input(),
                *slider_inputs(PAIRS_FREEDOM),
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
                    tooltip="Makes the first guesses; ideally the one that you will fine-tune. Not "
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
                    "Decode, instead of the prior. The guidance settings then have no effect.",
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
        photographs, guessed, made = map(user_folder, (folder, guess_folder, target_folder))
        check_given((photographs, guessed, made), (crops, guesses, targets))
        prior = chosen_prior(prior, outside=targets is not None or made is not None)
        if restorer is None and guesses is None and guessed is None:
            restorer = load_restorer()
        restorer = None if restorer is None else memory.manage_restorer(restorer)
        detector = detector or memory.manage_detector(load_detector())
        sample, needed = None, 0
        if prior is not None:
            sample = Guidance(**guidance, batch_size=batch_size).settings(prior.prior)
            needed = memory.sampling_bytes(prior.prior, batch_size)
        settings = PairSettings(
            score=score, min_size=min_size, size=crop_size or None, fidelity=fidelity, sample=sample
        )
        memory.load(detector, prior, restorer, faces=settings.batch_size, needed=needed)
        out = set_folder(pairs_name)
        shared: dict[str, Any] = {
            "detector": detector,
            "restorer": restorer,
            "prior": None if prior is None else prior.prior,
            "settings": settings,
            "say": log.info,
            "on_step": progress(),
        }
        if photographs is not None:
            sources, unread = find_sources([photographs], out), unread_files([photographs], out)
            built = build_pairs(sources, out, guesses=guessed, targets=made, **shared)
        else:
            unread = ()
            assert crops is not None
            built = build_pairs_from_crops(
                to_core(crops, "crops")[0],
                out,
                guesses=None if guesses is None else to_core(guesses, "guesses")[0],
                targets=None if targets is None else to_core(targets, "targets")[0],
                **shared,
            )
        _built.add(pairs_name)
        return io.NodeOutput(built.pairs, report(built, unread))


def check_given(folders: Sequence[Path | None], images: Sequence[Tensor | None]) -> None:
    """Refuses faces from nowhere or from two places, and what does not go with them.

    Args:
        folders: of the photographs, of their guesses and of their targets.
        images: the crops, their guesses and their targets.
    """
    (photographs, *in_folders), (crops, *as_images) = folders, images
    if (photographs is None) == (crops is None):
        raise InputError(
            f"The faces must come from a folder or as crops, got "
            f"{'neither' if crops is None else 'both'}. Fill in folder or connect crops."
        )
    for name, folder, given in zip(("guess", "target"), in_folders, as_images, strict=True):
        if (folder if photographs is None else given) is not None:
            raise InputError(
                f"A {name} folder must go with a folder of photographs, and {name} images with "
                "crops, got them crossed. Connect or fill in the other."
            )


def chosen_prior(prior: memory.ManagedPrior | None, outside: bool) -> memory.ManagedPrior | None:
    """The prior that is connected, else the embedded one; None if targets come from elsewhere."""
    if prior is not None and outside:
        raise InputError(
            "Targets must come from the prior or from elsewhere, got both. Disconnect one."
        )
    return memory.manage_prior(load_prior()) if prior is None and not outside else prior
