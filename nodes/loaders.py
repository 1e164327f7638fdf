"""The nodes that load networks: embedded ones, files of the user's, published ones on request."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..bfr import weights
from ..bfr.errors import MissingWeightsError
from ..bfr.parsing import load_parser
from ..bfr.restorer import load_restorer
from ..bfr.retinaface import load_detector
from . import memory, schemas

EMBEDDED = "embedded default"

# Where each kind of weights is looked for, the first being where it is downloaded to unless
# the manifest names another; the keys are ComfyUI's folder names.
FOLDERS = {
    "detector": ("detection", "facedetection"),
    "restorer": ("facerestore_models", "upscale_models"),
    "parser": ("facedetection", "facerestore_models"),
}
_OWN_FOLDERS = ("facedetection", "facerestore_models")  # not known to ComfyUI itself
_EXTENSIONS = {".safetensors", ".pth"}


def register_folders() -> None:
    """Adds the model folders that ComfyUI does not know, to what other packs registered."""
    for key in _OWN_FOLDERS:
        known = key in folder_paths.folder_names_and_paths
        folder_paths.add_model_folder_path(key, str(Path(folder_paths.models_dir) / key))
        paths, extensions = folder_paths.folder_names_and_paths[key]
        if extensions or not known:  # an empty set of another pack takes every file already
            extensions = set(extensions) | _EXTENSIONS
            folder_paths.folder_names_and_paths[key] = (paths, extensions)


def list_names(kind: str) -> list[str]:
    """The choices for one kind of weights: found files, then published ones not yet here."""
    names = [name for key in FOLDERS[kind] for name in folder_paths.get_filename_list(key)]
    names += [entry.file for entry in weights.published() if entry.kind == kind]
    return list(dict.fromkeys(names))


def find_file(kind: str, name: str) -> Path | None:
    """The file of that name in the folders of its kind, or None."""
    for key in FOLDERS[kind]:
        path = folder_paths.get_full_path(key, name)
        if path is not None:
            return Path(path)
    return None


def get_file(kind: str, name: str, download: bool) -> Path:
    """The weights file of that name, downloaded first if allowed and needed.

    Raises:
        MissingWeightsError: if there is no such file, and no leave or no place to download it.
    """
    path = find_file(kind, name)
    entry = next((e for e in weights.published() if e.file == name and e.kind == kind), None)
    if entry is None:
        if path is None:
            raise MissingWeightsError(
                f"There is no {kind} file named {name!r} in the model folders "
                f"{' and '.join(FOLDERS[kind])}. Choose one of: {', '.join(list_names(kind))}."
            )
        return path
    folder = path.parent if path else Path(folder_paths.get_folder_paths(entry.folder)[0])
    if download:  # of a file that is here already it only checks the sha256
        return weights.download(entry, folder, on_step=memory.progress())
    if path is None:
        raise MissingWeightsError(
            f"{name} is published but not on this machine, and nothing downloads by itself. "
            f"Turn on download, or save {entry.url} as {folder / name}. "
            f"Its licence: {entry.licence}."
        )
    return path


def fingerprint(kind: str, name: str | None) -> str:
    """Changes when the file behind the name does, so that a replaced file is read again."""
    path = find_file(kind, name) if name else None
    if path is None:
        return f"{name}"
    stat = path.stat()
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"


def _name_input(id: str, display_name: str, kind: str, embedded: bool) -> io.Combo.Input:
    options = [EMBEDDED] * embedded + list_names(kind)
    default = "comes with the pack and needs no file. " if embedded else ""
    return io.Combo.Input(
        id,
        display_name=display_name,
        options=options,
        default=options[0] if options else None,
        tooltip=f"The weights file. {'The ' + EMBEDDED + ' ' + default if embedded else ''}"
        f"Files are found in models/{' and models/'.join(FOLDERS[kind])}. Published files that "
        "are not on this machine are listed too: turn on download to fetch one.",
    )


def _download_input() -> io.Boolean.Input:
    return io.Boolean.Input(
        "download",
        display_name="download",
        default=False,
        tooltip="Fetch the chosen file from its publisher if it is not on this machine yet, and "
        "check its sha256. Off: nothing is ever downloaded. Mind the file's licence.",
    )


class LoadFaceDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadFaceDetector",
            display_name="Load Face Detector",
            category=schemas.CATEGORY,
            description="Loads the RetinaFace network that finds faces and their five landmarks.",
            search_aliases=["face detection model", "retinaface", "load retinaface"],
            inputs=[
                _name_input("detector_name", "detector", "detector", embedded=True),
                _download_input(),
            ],
            outputs=[
                schemas.Detector.Output(
                    "detector", display_name="detector", tooltip="For Detect Faces."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, detector_name, download):
        return fingerprint("detector", detector_name)

    @classmethod
    def execute(cls, detector_name, download) -> io.NodeOutput:
        path = None
        if detector_name != EMBEDDED:
            path = get_file("detector", detector_name, download)
        return io.NodeOutput(memory.manage(load_detector(path)))


class LoadRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadRestorer",
            display_name="Load Restorer",
            category=schemas.CATEGORY,
            description="Loads a face restorer: the embedded one, or GFPGAN, CodeFormer, "
            "RestoreFormer, SwinIR and any other single-image network that spandrel knows.",
            search_aliases=["face restore model", "gfpgan", "codeformer", "restoreformer"],
            inputs=[
                _name_input("restorer_name", "restorer", "restorer", embedded=True),
                _download_input(),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    "restorer",
                    display_name="restorer",
                    tooltip="For Restore Faces; stock upscale nodes take it too.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, restorer_name, download):
        return fingerprint("restorer", restorer_name)

    @classmethod
    def execute(cls, restorer_name, download) -> io.NodeOutput:
        path = None
        if restorer_name != EMBEDDED:
            path = get_file("restorer", restorer_name, download)
        restorer = load_restorer(path)
        memory.restorer_patcher(restorer)
        return io.NodeOutput(restorer)


class LoadFaceParser(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="BFR_LoadFaceParser",
            display_name="Load Face Parser",
            category=schemas.CATEGORY,
            description="Loads a network that outlines the face, for Paste Faces' mask mode "
            "'parsing'. Optional: the soft oval needs none.",
            search_aliases=["face parsing", "parsenet", "bisenet", "face segmentation"],
            inputs=[
                _name_input("parser_name", "parser", "parser", embedded=False),
                _download_input(),
            ],
            outputs=[
                schemas.Parser.Output(
                    "parser", display_name="parser", tooltip="For Paste Faces and Restore Photo."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, parser_name, download):
        return fingerprint("parser", parser_name)

    @classmethod
    def execute(cls, parser_name, download) -> io.NodeOutput:
        parser = load_parser(get_file("parser", parser_name, download))
        return io.NodeOutput(memory.manage(parser))
