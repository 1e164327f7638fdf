"""The nodes that fine-tune a restorer on its own pairs, and keep it."""

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
from ..bfr.finetune.loop import Finetuned, finetune
from ..bfr.finetune.save import save_restorer
from ..bfr.finetune.settings import (
    PRESETS,
    FinetuneSettings,
    adjusted,
    preset_for,
)
from ..bfr.restore.restorer import Restorer, load_restorer
from . import memory, schemas
from .convert import to_comfy, to_core
from .folders import stamp, user_folder

log = logging.getLogger(__name__)

RUNS = "face_restoration_runs"  # below ComfyUI's output folder
KEPT = "facerestore_models"  # ComfyUI's folder of face restorers
AUTO = "auto"
CONTINUE, ANEW = "continue", "start anew"
_PRESETS_OWN = -1.0  # of a weight, for which 0 is a value

_stopped: Counter[str] = Counter()  # how often each run was interrupted in this session


def run_folder(name: str) -> Path:
    """The folder of a run, below ComfyUI's output folder.

    Raises:
        InputError: if the name would lead out of it.
    """
    root = Path(folder_paths.get_output_directory(), RUNS).resolve()
    folder = (root / name.strip()).resolve()
    if folder == root or not folder.is_relative_to(root):
        raise InputError(
            f"A run needs a name such as family_album or albums/1950s, for a folder below {root}; "
            f"got {name!r}."
        )
    return folder


def make_settings(
    restorer: Restorer,
    *,
    preset: str,
    steps: int,
    seed: int,
    learning_rate: float,
    batch: int,
    micro_batch: int,
    patch: int,
    distance: str,
    pixel: float,
    perceptual: float,
    adversarial: float,
    ema: float,
    precision: str,
    checkpointing: bool,
    held_back: float,
) -> FinetuneSettings:
    """The core's settings of what Fine-tune Restorer gives: the preset's with some changed.

    Raises:
        InputError: if there is no such preset, or a value is out of its range.
    """
    if preset not in (AUTO, *PRESETS):
        raise InputError(f"preset must be {AUTO} or one of {list(PRESETS)}; got {preset!r}.")
    weights = {"pixel": pixel, "perceptual": perceptual, "adversarial": adversarial, "ema": ema}
    numbers = {"steps": steps, "lr": learning_rate, "batch": batch, "micro_batch": micro_batch}
    changes: dict[str, Any] = {name: value for name, value in weights.items() if value >= 0}
    changes |= {name: value for name, value in numbers.items() if value}
    if patch:
        changes["patch"] = patch if patch > 0 else None
    return adjusted(
        PRESETS[preset_for(restorer) if preset == AUTO else preset],
        **changes,
        distance=distance,
        precision=precision,
        checkpointing=checkpointing,
        held_back=held_back,
        seed=seed,
    )


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
            "published recipes, for a day on a GPU; the first one suits GFPGAN and RestoreFormer "
            "too.",
        ),
        _own_number(
            "steps",
            "steps",
            1_000_000,
            "How long it trains, and the time it takes. Some hundreds change the restorer visibly.",
            advanced=False,
        ),
        schemas.seed_input("Draws the order of the pairs, their patches and mirrorings."),
        io.Float.Input(
            "learning_rate",
            display_name="learning rate",
            default=0.0,
            min=0.0,
            max=0.01,
            step=0.00001,
            round=0.0000001,
            tooltip="How large a step is, at the beginning. Higher learns faster and forgets more "
            "of what the restorer knows. 0: the preset's.",
            advanced=True,
        ),
        _own_number("batch", "batch size", 4096, "Pairs in each step."),
        _own_number(
            "micro_batch",
            "micro-batch",
            4096,
            "Pairs that go through the network at once; it must divide the batch size. Fewer need "
            "less memory and give the same result.",
        ),
        _own_number(
            "patch",
            "patch",
            4096,
            "Side in pixels of the squares that are cut from the faces. Smaller is quicker. -1: "
            "whole faces, as GFPGAN, RestoreFormer and CodeFormer need.",
            low=-1,
        ),
        io.Combo.Input(
            "distance",
            display_name="perceptual distance",
            options=list(DISTANCES),
            default=DISTANCES[0],
            tooltip="How likeness to the pseudo target is felt. lpips: the paper's; it needs the "
            "lpips package and its VGG weights on this machine. pyramid: needs neither. auto: "
            "lpips where it is there; the report says which it was.",
            advanced=True,
        ),
        _own_weight("pixel", "pixel weight", "Of the mean absolute error."),
        _own_weight("perceptual", "perceptual weight", "Of the perceptual distance."),
        _own_weight(
            "adversarial",
            "adversarial weight",
            "Of a discriminator that tells restored faces from clean ones; in the quick recipe, "
            "its pull as a share of the other two's. Higher: crisper, and less sure. 0: none, "
            "which takes less time and memory.",
        ),
        _own_weight(
            "ema",
            "moving average",
            "Decay of the average over the steps, which is what is scored and kept. 0: none.",
            high=0.9999,
        ),
        io.Combo.Input(
            "precision",
            display_name="precision",
            options=list(PRECISIONS),
            default=PRECISIONS[0],
            tooltip="Of the networks' work. float32 is exact, and quickest on most CPUs. bfloat16 "
            "and float16 are quicker and take less memory on a GPU.",
            advanced=True,
        ),
        io.Boolean.Input(
            "checkpointing",
            display_name="gradient checkpointing",
            default=False,
            tooltip="Takes much less memory, and about a third more time. The result is the same.",
            advanced=True,
        ),
        schemas.slider(
            "held_back",
            "held-back share",
            0.1,
            "The share of the pairs that is not trained with, but scored: it tells whether the "
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
            "that it learns their damage. Scored all along: what comes out is never worse than "
            "what went in, unless you ask for it. Cancel saves and gives the best so far.",
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
                    tooltip="Where the run is kept, with its checkpoints, plot and samples: this "
                    f"folder below {RUNS} in ComfyUI's output folder. An interrupted run is "
                    "continued from there.",
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
                    "After how many steps the state is saved, beside every five minutes. A crash "
                    "loses at most the steps since then.",
                ),
                io.Combo.Input(
                    "existing_run",
                    display_name="existing run",
                    options=[CONTINUE, ANEW],
                    default=CONTINUE,
                    tooltip="If there is a run of that name. continue: goes on where it stopped, "
                    "and refuses if the pairs, the restorer or the settings are others. start "
                    "anew: overwrites it.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "keep_worse",
                    display_name="accept worse",
                    default=False,
                    tooltip="If no step beats the base, the last one comes out nevertheless. Off: "
                    "the base comes out, and the report warns.",
                    advanced=True,
                ),
                io.String.Input(
                    "clean_folder",
                    display_name="clean faces",
                    default="",
                    placeholder="none",
                    tooltip="A folder of clean aligned faces, anybody's, for the discriminator to "
                    "learn from; the pseudo targets otherwise. A whole path, or the name of a "
                    "folder in ComfyUI's input folder.",
                    advanced=True,
                ),
                io.UpscaleModel.Input(
                    "restorer",
                    display_name="restorer",
                    optional=True,
                    tooltip="What is trained further, best the one that made the guesses. It is "
                    "not changed: a new one comes out. Not connected: the embedded default.",
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
        preset,
        steps,
        seed,
        learning_rate,
        batch,
        micro_batch,
        patch,
        distance,
        pixel,
        perceptual,
        adversarial,
        ema,
        precision,
        checkpointing,
        held_back,
        validate_every,
        save_every,
        existing_run,
        keep_worse,
        clean_folder,
        restorer=None,
        evaluation=None,
    ) -> io.NodeOutput:
        if existing_run not in (CONTINUE, ANEW):
            raise InputError(f"existing run must be {CONTINUE} or {ANEW}; got {existing_run!r}.")
        restorer = memory.manage_restorer(restorer or load_restorer())
        settings = make_settings(
            restorer,
            preset=preset,
            steps=steps,
            seed=seed,
            learning_rate=learning_rate,
            batch=batch,
            micro_batch=micro_batch,
            patch=patch,
            distance=distance,
            pixel=pixel,
            perceptual=perceptual,
            adversarial=adversarial,
            ema=ema,
            precision=precision,
            checkpointing=checkpointing,
            held_back=held_back,
        )
        run = run_folder(run_name)
        with memory.room(memory.training_bytes(restorer, settings)):
            tuned = finetune(
                memory.unmanaged(restorer),
                pairs,
                run,
                settings,
                clean=user_folder(clean_folder),
                evaluation=None if evaluation is None else to_core(evaluation, "evaluation")[0],
                device=model_management.get_torch_device(),
                resume=False if existing_run == ANEW else None,
                keep_worse=keep_worse,
                validate_every=validate_every,
                save_every=save_every,
                say=log.info,
                on_step=memory.saving_progress(),
            )
        if not tuned.finished:
            _stopped[run_name.strip()] += 1
        restorer = memory.manage_restorer(tuned.restorer, tuned.about)
        return io.NodeOutput(
            restorer, report(tuned, run), to_comfy(tuned.plot), to_comfy(tuned.strip)
        )


def report(tuned: Finetuned, run: Path) -> str:
    """The core's report, and where the run is."""
    lines = [tuned.report, f"The run is in {run}."]
    if not tuned.finished:
        lines.append("It was interrupted: queue it again to go on where it stopped.")
    return "\n\n".join(lines)


def result_file(name: str, overwrite: bool) -> Path:
    """The file among ComfyUI's face restorers that is written to under a name.

    Args:
        name: as in ``family_album`` or ``tuned/1950s``; with ``.safetensors`` or without.
        overwrite: whether it may be there already; else the name gets a number.

    Raises:
        InputError: if the name would lead out of that folder.
    """
    root = Path(folder_paths.get_folder_paths(KEPT)[0]).resolve()
    stem = name.strip().removesuffix(".safetensors")
    path = root / f"{stem}.safetensors"
    if not stem or path.name.startswith(".") or not path.resolve().is_relative_to(root):
        raise InputError(
            f"A restorer needs a file name such as family_album or tuned/1950s, for a file below "
            f"{root}; got {name!r}."
        )
    number = 2
    while path.exists() and not overwrite:
        path = root / f"{stem}_{number}.safetensors"
        number += 1
    return path


class SaveRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_SaveRestorer",
            display_name="Save Restorer",
            category=schemas.TUNE,
            description="Writes a restorer to a file among ComfyUI's face restorers, with where it "
            "is from. Load Restorer, the stock Load Upscale Model and other programs read it.",
            search_aliases=["save model", "export restorer", "save fine-tuned", "safetensors"],
            is_output_node=True,
            inputs=[
                io.UpscaleModel.Input(
                    "restorer", display_name="restorer", tooltip="From Fine-tune Restorer."
                ),
                io.String.Input(
                    "file_name",
                    display_name="file name",
                    default="my_restorer",
                    tooltip=f"Without ending; in models/{KEPT}. If there is a file of that name, "
                    "the new one gets a number.",
                ),
                io.Boolean.Input(
                    "half",
                    display_name="half precision",
                    default=False,
                    tooltip="A file of half the size (float16). The faces hardly differ.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    display_name="overwrite",
                    default=False,
                    tooltip="Replaces a file of that name instead of numbering the new one.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.String.Output(
                    "path", display_name="path", tooltip="The file; show it with Preview as Text."
                )
            ],
        )

    @classmethod
    def execute(cls, restorer, file_name, half, overwrite) -> io.NodeOutput:
        path = result_file(file_name, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        restorer = memory.manage_restorer(restorer)
        save_restorer(path, restorer, restorer.about, half=half)
        return io.NodeOutput(str(path))
