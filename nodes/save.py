"""The node that saves a restorer, and what it knows of fine-tuned ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui
from server import PromptServer

from ..bfr.errors import FaceRestorationError, InputError
from ..bfr.files.names import check_portable
from ..bfr.finetune.loop import Finetuned
from ..bfr.finetune.save import read_provenance, save_restorer
from ..bfr.restore.onnx_export import check_replaceable, export_onnx
from . import memory, schemas
from .folders import FOLDERS

ONNX_KEPT = "facerestore_models"  # where ReActor looks
KEPT = "upscale_models"  # where our loader looks, and the core's Load Upscale Model


def why_not(tuned: Finetuned, run: Path) -> str:
    """The reason why a restorer may not be saved as a tuned one; empty if it may."""
    if tuned.interrupted:
        return f"the run {run.name} was interrupted. Queue it again to finish it."
    if not tuned.about:
        return f"nothing in the run {run.name} was better than the restorer that it began with."
    return ""


def result_file(name: str, overwrite: bool, about: Mapping[str, str]) -> Path:
    """The file among ComfyUI's upscale models to write under a name.

    A file of the same run is replaced. Any other keeps its place, and the name gets a number.

    Args:
        name: such as ``family_album`` or ``tuned/1950s``, with or without ``.safetensors``.
        overwrite: replace another fine-tuned restorer of that name, if it was tuned from the same
            restorer, or is the one that this was tuned from (a second round).
        about: the metadata to write.

    Raises:
        InputError: for a name that leads out of that folder, or that some system cannot hold; or
            if what would be overwritten is something else.
    """
    stem = name.strip().removesuffix(".safetensors")
    check_portable(stem)
    root = Path(folder_paths.get_folder_paths(KEPT)[0])
    numbered, number = f"{stem}.safetensors", 1
    while True:
        path = root / numbered
        found = _provenance(path)
        if about.get("run") and found.get("run") == about["run"]:
            return path
        if overwrite and path.exists():
            break
        others = (folder_paths.get_full_path(key, numbered) for key in FOLDERS["restorer"])
        if not path.exists() and not any(others):
            return path
        number += 1
        numbered = f"{stem}_{number}.safetensors"
    if not _related(found, about):
        raise InputError(
            f"What is overwritten must be tuned from the same restorer, got {path}, which is "
            "something else. Choose another name, or turn overwrite off."
        )
    return path


def _related(found: Mapping[str, str], about: Mapping[str, str]) -> bool:
    """Whether a found file was tuned from the same restorer, or is the one that was tuned on."""
    base = about.get("base_sha256")
    known = (found.get("base_sha256"), found.get("sha256"))
    return base is not None and known[0] is not None and base in known


def _provenance(path: Path) -> dict[str, str]:
    try:
        return read_provenance(path) if path.is_file() else {}
    except FaceRestorationError:
        return {}


def onnx_file(path: Path) -> Path:
    """The ONNX file that belongs to a saved restorer, by the same name."""
    root = Path(folder_paths.get_folder_paths(KEPT)[0])
    name = path.relative_to(root).with_suffix(".onnx")
    return Path(folder_paths.get_folder_paths(ONNX_KEPT)[0], name)


class SaveRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_SaveRestorer",
            display_name="Save Restorer",
            category=schemas.TUNE,
            description="Writes a restorer, with its origin, to a file among ComfyUI's upscale "
            "models, where Load Restorer, the stock Load Upscale Model and other programs can read "
            "it. Nothing is written if its run was interrupted or found nothing better.",
            search_aliases=["save model", "export restorer", "save fine-tuned", "safetensors"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.UpscaleModel.Input(
                    "restorer", display_name="restorer", tooltip="From Fine-tune Restorer."
                ),
                io.String.Input(
                    "file_name",
                    display_name="file name",
                    default="my_restorer",
                    tooltip=f"Without extension; in models/{KEPT}. A file of the same run is "
                    "replaced; if there is another of that name, the new one gets a number.",
                ),
                io.Boolean.Input(
                    "half",
                    display_name="half precision",
                    default=False,
                    tooltip="Writes float16: half the size, and faces that hardly differ.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    display_name="overwrite",
                    default=False,
                    tooltip="Replace a restorer of that name that was tuned from the same one, or "
                    "that this one was tuned from, instead of numbering the new one. Other files "
                    "are never replaced.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "onnx",
                    display_name="also as ONNX",
                    default=False,
                    optional=True,
                    tooltip=f"Writes the restorer a second time, as an ONNX file in "
                    f"models/{ONNX_KEPT}, which ReActor and FaceFusion load. It needs: pip install "
                    "onnx onnxruntime.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.String.Output(
                    "path",
                    display_name="path",
                    tooltip="The file, or why none was written; show it with Preview as Text.",
                )
            ],
        )

    @classmethod
    def execute(cls, restorer, file_name, half, overwrite, onnx=False) -> io.NodeOutput:
        restorer = memory.manage_restorer(restorer)
        if restorer.unsaved:
            return cls._show(f"NOT SAVED: {restorer.unsaved}", "")
        path = result_file(file_name, overwrite, restorer.about)
        path.parent.mkdir(parents=True, exist_ok=True)
        twin = onnx_file(path) if onnx else None
        if twin is not None:
            check_replaceable(twin)  # before anything is written
        save_restorer(path, restorer, restorer.about, half=half)
        if twin is None:
            return cls._show(f"Saved: {path}", str(path))
        twin.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(twin, restorer, restorer.about)
        return cls._show(f"Saved: {path}\nand for other programs: {twin}", str(path))

    @classmethod
    def _show(cls, words: str, path: str) -> io.NodeOutput:
        """Shows the outcome on the node, and gives the path, or else the words."""
        if cls.hidden.unique_id:
            PromptServer.instance.send_progress_text(words, cls.hidden.unique_id)
        return io.NodeOutput(path or words, ui=ui.PreviewText(words))
