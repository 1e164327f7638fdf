"""The node that fine-tunes a restorer."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import folder_paths
from comfy_api.latest import io

from ..bfr.choices import DISTANCES, PRECISIONS
from ..bfr.errors import InputError
from ..bfr.files.names import check_portable
from ..bfr.finetune.loop import finetune
from ..bfr.finetune.plan import check_memory, training_bytes
from ..bfr.finetune.settings import (
    PRESETS,
    FinetuneSettings,
    adjusted,
    preset_for,
)
from ..bfr.restore.restorer import Restorer, load_restorer
from . import memory, save, schemas
from .convert import to_comfy, to_core
from .folders import stamp, user_folder

log = logging.getLogger(__name__)

RUNS = "face_restoration_runs"  # below ComfyUI's output folder
AUTO = "auto"
CONTINUE, ANEW = "continue", "start anew"
_PRESETS_OWN = -1.0  # of a weight, for which 0 is a value
_WEIGHTS = ("pixel", "perceptual", "adversarial", "ema")  # below 0: the preset's
_NUMBERS = ("steps", "learning_rate", "batch", "micro_batch", "patch")  # 0: the preset's
_NAMES = {"learning_rate": "lr"}  # inputs that the core calls something else

_stopped: Counter[str] = Counter()  # how often each run was interrupted in this session


def run_folder(name: str) -> Path:
    """The folder of a run, below ComfyUI's output folder.

    Raises:
        InputError: if the name would lead out of it, or some system cannot hold it.
    """
    check_portable(name.strip())
    return Path(folder_paths.get_output_directory(), RUNS, name.strip())


def make_settings(restorer: Restorer, *, preset: str, **inputs: Any) -> FinetuneSettings:
    """The preset's settings, changed by the node's other inputs of the recipe.

    Raises:
        InputError: if there is no such preset, or a value is out of its range.
    """
    if preset not in (AUTO, *PRESETS):
        raise InputError(
            f"preset must be {AUTO} or one of {list(PRESETS)}, got {preset!r}. Choose one."
        )
    changes: dict[str, Any] = {}
    for id, value in inputs.items():
        left_to_preset = value < 0 if id in _WEIGHTS else id in _NUMBERS and not value
        if not left_to_preset:
            changes[_NAMES.get(id, id)] = None if id == "patch" and value < 0 else value
    return adjusted(PRESETS[preset_for(restorer) if preset == AUTO else preset], **changes)


def _own_weight(id: str, display_name: str, tooltip: str, high: float = 10.0) -> io.Float.Input:
    return io.Float.Input(
        id,
        display_name=display_name,
        default=_PRESETS_OWN,
        min=_PRESETS_OWN,
        max=high,
        step=0.01,
        round=0.00001,
        tooltip=f"{tooltip} -1: the preset's.",
        advanced=True,
    )


def _own_number(
    id: str, display_name: str, high: int, tooltip: str, *, low: int = 0, advanced: bool = True
) -> io.Int.Input:
    return io.Int.Input(
        id,
        display_name=display_name,
        default=0,
        min=low,
        max=high,
        tooltip=f"{tooltip} 0: the preset's.",
        advanced=advanced or None,
    )


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


def recipe_inputs() -> list[io.Input]:
    """How a restorer is fine-tuned: what a beginner sees first, then the advanced."""
    return [
        io.Combo.Input(
            "preset",
            display_name="preset",
            options=[AUTO, *PRESETS],
            default=AUTO,
            tooltip="The recipe. auto: the one that suits the restorer. quick: minutes to an hour "
            "for the embedded restorer without a GPU. SwinIR (paper) and CodeFormer (paper): the "
            "published recipes, for a day on a GPU; the first also suits GFPGAN and RestoreFormer. "
            "quick demo: the quick one cut short to minutes, to see that it works.",
        ),
        _own_number(
            "steps",
            "steps",
            1_000_000,
            "How long it trains. A few hundred change the restorer visibly; twice the steps take "
            "twice the time.",
            advanced=False,
        ),
        schemas.seed_input("Draws the order of the pairs, their patches and mirroring."),
        io.Float.Input(
            "learning_rate",
            display_name="learning rate",
            default=0.0,
            min=0.0,
            max=0.01,
            step=0.00001,
            round=0.0000001,
            tooltip="The size of a step at the beginning. Higher learns faster and forgets more of "
            "what the restorer knows. 0: the preset's.",
            advanced=True,
        ),
        _own_number("batch", "batch size", 4096, "Pairs in each step."),
        _own_number(
            "micro_batch",
            "micro-batch",
            4096,
            "Pairs that go through the network at once; must divide the batch size. Fewer need "
            "less memory and give the same result.",
        ),
        _own_number(
            "patch",
            "patch",
            4096,
            "Side in pixels of the squares cut from the faces. Smaller is quicker. -1: whole "
            "faces, as GFPGAN, RestoreFormer and CodeFormer need.",
            low=-1,
        ),
        io.Combo.Input(
            "distance",
            display_name="perceptual distance",
            options=list(DISTANCES),
            default=DISTANCES[0],
            tooltip="How the distance from the pseudo target is measured. lpips: the paper's; "
            "needs the lpips package and its VGG weights on this machine. pyramid: needs neither. "
            "auto: lpips where it is installed; the report names the one used.",
            advanced=True,
        ),
        _own_weight("pixel", "pixel weight", "Weight of the mean absolute error."),
        _own_weight("perceptual", "perceptual weight", "Weight of the perceptual distance."),
        _own_weight(
            "adversarial",
            "adversarial weight",
            "Weight of a discriminator that tells restored faces from clean ones; in the quick "
            "recipe, its pull as a share of the other two. Higher: crisper, and less sure. 0: "
            "none, which takes less time and memory.",
        ),
        _own_weight(
            "ema",
            "moving average",
            "Decay of the moving average of the weights, which is scored and kept. 0: none.",
            high=0.9999,
        ),
        io.Combo.Input(
            "precision",
            display_name="precision",
            options=list(PRECISIONS),
            default=PRECISIONS[0],
            tooltip="The numbers that the networks compute in. float32 is exact, and quickest on "
            "most CPUs. bfloat16 and float16 are quicker and take less memory on a GPU.",
            advanced=True,
        ),
        io.Boolean.Input(
            "checkpointing",
            display_name="gradient checkpointing",
            default=False,
            tooltip="Needs much less memory and about a third more time, for the same result.",
            advanced=True,
        ),
        schemas.slider(
            "held_back",
            "held-back share",
            0.1,
            "The share of the pairs that is not trained with but scored: it shows whether the "
            "restorer becomes better.",
            high=0.5,
            advanced=True,
        ),
    ]


class FinetuneRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_FinetuneRestorer",
            display_name="Fine-tune Restorer",
            category=schemas.TUNE,
            description="Trains a restorer further on pairs of your own damaged photographs, so "
            "that it learns their damage. It is scored all along, and if nothing beats the "
            "restorer that went in, that one comes out. Cancel saves the run; queue it again to "
            "resume.",
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
                    tooltip="If no step beats the base, the last one comes out anyway. Off: the "
                    "base comes out, and the report says so.",
                    advanced=True,
                ),
                io.String.Input(
                    "clean_folder",
                    display_name="clean faces",
                    default="",
                    placeholder="none",
                    tooltip="A folder of clean aligned faces, anybody's, for the discriminator to "
                    "learn from instead of the pseudo targets: a full path, or a folder in "
                    "ComfyUI's input folder.",
                    advanced=True,
                ),
                io.UpscaleModel.Input(
                    "restorer",
                    display_name="restorer",
                    optional=True,
                    tooltip="The restorer to train further, best the one that made the guesses. It "
                    "is not changed: a new one comes out. Not connected: the embedded default.",
                ),
                io.Image.Input(
                    "evaluation",
                    display_name="evaluation faces",
                    optional=True,
                    tooltip="Aligned damaged faces, not among the pairs, that are scored too: from "
                    "Align Faces.",
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
        **recipe,
    ) -> io.NodeOutput:
        if existing_run not in (CONTINUE, ANEW):
            raise InputError(
                f"existing run must be {CONTINUE} or {ANEW}, got {existing_run!r}. Choose one."
            )
        restorer = memory.manage_restorer(restorer or load_restorer())
        settings = make_settings(restorer, **recipe)
        run = run_folder(run_name)
        needed, device = training_bytes(restorer, settings), model_management.get_torch_device()
        log.info("Fine-tuning needs %s.", check_memory(needed, device))
        with memory.room(needed):
            tuned = finetune(
                memory.unmanaged(restorer),
                pairs,
                run,
                settings,
                clean=user_folder(clean_folder),
                evaluation=None if evaluation is None else to_core(evaluation, "evaluation")[0],
                device=device,
                resume=False if existing_run == ANEW else None,
                keep_worse=keep_worse,
                validate_every=validate_every,
                save_every=save_every,
                say=log.info,
                on_step=memory.saving_progress(),
            )
        if not tuned.finished:
            _stopped[run_name.strip()] += 1
        return io.NodeOutput(
            memory.manage_restorer(tuned.restorer, tuned.about, save.why_not(tuned, run)),
            f"{tuned.report}\n\nThe run is in {run}.",
            to_comfy(tuned.plot),
            to_comfy(tuned.strip),
        )
