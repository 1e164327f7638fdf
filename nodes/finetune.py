"""The node that fine-tunes a restorer."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import folder_paths
from comfy_api.latest import io

from ..bfr.errors import InputError
from ..bfr.files.names import check_portable
from ..bfr.finetune.loop import finetune
from ..bfr.finetune.plan import make_plan, training_bytes
from ..bfr.finetune.run_folder import RunFolder
from ..bfr.restore.load import load_restorer
from . import memory, save, schemas
from .convert import to_comfy, to_core
from .folders import stamp, user_folder
from .progress import saving_progress
from .recipe import make_settings, own_weight, recipe_inputs

log = logging.getLogger(__name__)

RUNS = "face_restoration_runs"  # below ComfyUI's output folder
CONTINUE, ANEW = "continue", "start anew"

_stopped: Counter[str] = Counter()  # how often each run was interrupted in this session


def _check_length(steps: int | None, minutes: float) -> None:
    if minutes and steps:
        raise InputError(
            f"One of steps and minutes must be 0, got {steps} and {minutes:g}. Set one to 0."
        )


def run_folder(name: str) -> Path:
    """The folder of a run, below ComfyUI's output folder.

    Raises:
        InputError: if the name would lead out of it, or some system cannot hold it.
    """
    check_portable(name.strip())
    return Path(folder_paths.get_output_directory(), RUNS, name.strip())


def _every(id: str, display_name: str, tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        id,
        display_name=display_name,
        default=100,
        min=1,
        max=100_000,
        tooltip=tooltip,
        advanced=True,
    )


class FinetuneRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_FinetuneRestorer",
            display_name="Fine-tune Restorer",
            category=schemas.TUNE,
            description="Trains a restorer further on pairs of your own damaged photographs, so "
            "that it learns their damage. It is scored throughout, and if nothing beats the "
            "restorer you began with, you get that one back. Cancel saves the run; queue it again "
            "to resume.",
            search_aliases=["train restorer", "finetune", "training", "gfpgan training", "tune"],
            is_output_node=True,
            inputs=[
                schemas.Pairs.Input(
                    "pairs",
                    display_name="pairs",
                    tooltip="From Build, Load or Review Training Pairs. Rejected ones are left "
                    "out.",
                ),
                io.String.Input(
                    "run_name",
                    display_name="run",
                    default="my_restorer",
                    tooltip="The run's own folder, for its state, plot and samples, below "
                    f"{RUNS} in ComfyUI's output folder. An interrupted run resumes from there.",
                ),
                *recipe_inputs(),
                _every(
                    "validate_every",
                    "validate every",
                    "After how many steps the restorer is scored and the strip is drawn.",
                ),
                _every(
                    "save_every",
                    "save every",
                    "After how many steps the state is saved; also every five minutes. A crash "
                    "loses at most the steps since then.",
                ),
                io.Combo.Input(
                    "existing_run",
                    display_name="existing run",
                    options=[CONTINUE, ANEW],
                    default=CONTINUE,
                    tooltip="If there is a run of that name. continue: resumes it, and refuses if "
                    "the pairs, the restorer or the settings have changed. start anew: deletes it "
                    "and starts again.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "keep_worse",
                    display_name="accept worse",
                    default=False,
                    tooltip="Returns the last step even if none beats the base. Off: returns the "
                    "base, and the report says so.",
                    advanced=True,
                ),
                io.String.Input(
                    "clean_folder",
                    display_name="clean faces",
                    default="",
                    placeholder="none",
                    tooltip="A folder of clean aligned faces, anybody's, for the discriminator to "
                    "learn from instead of the pseudo targets: a name in ComfyUI's input folder, "
                    "or a path within its input, output, models or datasets folder.",
                    advanced=True,
                ),
                io.UpscaleModel.Input(
                    "restorer",
                    display_name="restorer",
                    optional=True,
                    tooltip="The restorer to train further, ideally the one that made the guesses. "
                    "It is not changed itself: you get a new one. Not connected: the embedded "
                    "default.",
                ),
                io.Image.Input(
                    "evaluation",
                    display_name="evaluation faces",
                    optional=True,
                    tooltip="Aligned damaged faces from Align Faces that are not among the pairs; "
                    "they are scored, too.",
                ),
                own_weight(
                    "identity",
                    "identity weight",
                    "Weight of staying the person of the restorer's first guess, as a face "
                    "recognition network sees it. Higher: surer to stay the same person, but less "
                    "is learned. 0: none. CodeFormer's recipe has no such term.",
                    high=1000.0,
                    optional=True,
                ),
                schemas.Damage.Input(
                    "damage",
                    display_name="damage",
                    optional=True,
                    tooltip="From Learn Damage: applied to the clean faces, which then join the "
                    "pairs as training data. Needs clean faces.",
                ),
                schemas.recognizer_input(
                    "judges whether faces stay the same people. Training itself uses the embedded "
                    "one."
                ),
                io.Float.Input(
                    "minutes",
                    display_name="minutes",
                    default=0.0,
                    min=0.0,
                    max=100_000.0,
                    step=1.0,
                    round=0.1,
                    tooltip="How long it may train, instead of steps: a few are timed first. 0: "
                    "by steps.",
                    optional=True,
                    advanced=True,
                ),
                io.Int.Input(
                    "adapter_rank",
                    display_name="adapter rank",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="For large restorers: trains low-rank adapters of this rank, 8 to 64, "
                    "instead of all weights, with much less memory. They are merged on saving. 0: "
                    "trains all weights.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    "tuned_restorer",
                    display_name="restorer",
                    tooltip="The fine-tuned restorer, for Restore Faces, Save Restorer and stock "
                    "upscale nodes.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Whether and how it beats the base; show it with Preview as Text.",
                ),
                io.Image.Output(
                    "loss_plot",
                    display_name="loss plot",
                    tooltip="The losses and scores over the steps.",
                ),
                io.Image.Output(
                    "validation_strip",
                    display_name="validation strip",
                    tooltip="Held-back faces: input, guess, pseudo target, base and now.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, run_name, clean_folder, **others):
        """Changes with the clean faces, and when the run was interrupted: it then goes on."""
        clean = user_folder(clean_folder or "")
        stamped = stamp(clean) if clean and clean.is_dir() else ""
        return f"{_stopped[(run_name or '').strip()]} {stamped}"

    @classmethod
    def execute(
        cls,
        pairs,
        run_name,
        existing_run,
        validate_every,
        save_every,
        keep_worse,
        clean_folder,
        restorer=None,
        evaluation=None,
        damage=None,
        recognizer=None,
        minutes=0.0,
        adapter_rank=0,
        **recipe,
    ) -> io.NodeOutput:
        if existing_run not in (CONTINUE, ANEW):
            raise InputError(
                f"existing run must be {CONTINUE} or {ANEW}, got {existing_run!r}. Choose one."
            )
        _check_length(recipe.get("steps"), minutes)
        restorer = memory.manage_restorer(restorer or load_restorer())
        settings = make_settings(restorer, adapter_rank=adapter_rank or 0, **recipe)
        run = run_folder(run_name)
        base = memory.unmanaged(restorer)
        given: dict[str, Any] = {"clean": user_folder(clean_folder), "damage": damage}
        given |= {"device": model_management.get_torch_device(), "validate_every": validate_every}
        with memory.room(training_bytes(restorer, settings)):
            settings, words = make_plan(
                base,
                pairs,
                settings,
                minutes=minutes or 0.0,
                state=None if existing_run == ANEW else RunFolder(run, writes=False).read(),
                **given,
            )
            log.info("Fine-tuning: %s.", words)
            tuned = finetune(
                base,
                pairs,
                run,
                settings,
                evaluation=None if evaluation is None else to_core(evaluation, "evaluation")[0],
                resume=False if existing_run == ANEW else None,
                keep_worse=keep_worse,
                save_every=save_every,
                say=log.info,
                on_step=saving_progress(),
                judge=None if recognizer is None else memory.load_recognizer(recognizer),
                **given,
            )
        if not tuned.finished:
            _stopped[run_name.strip()] += 1
        return io.NodeOutput(
            memory.manage_restorer(tuned.restorer, tuned.about, save.why_not(tuned, run)),
            f"{tuned.report}\n\nThe run is in {run}.",
            to_comfy(tuned.plot),
            to_comfy(tuned.strip),
        )
