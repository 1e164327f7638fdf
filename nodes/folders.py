"""Where files of the user's lie among ComfyUI's folders, and how they get there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import folder_paths

from ..bfr.errors import MissingWeightsError
from ..bfr.files import downloads, manifest
from . import memory

# Where each kind of weights is looked for, the first being where it is downloaded to unless
# the manifest names another; the keys are ComfyUI's folder names.
FOLDERS = {
    "detector": ("detection", "facedetection"),
    "restorer": ("facerestore_models", "upscale_models"),
    "parser": ("facedetection", "facerestore_models"),
    "prior": ("face_priors", "diffusers"),
    "identity": ("insightface",),
}
# Not known to ComfyUI itself, with the endings of their files.
_OWN_FOLDERS = {
    "facedetection": {".safetensors", ".pth"},
    "facerestore_models": {".safetensors", ".pth"},
    "face_priors": {".safetensors", ".pth", ".pt"},
    "insightface": {".onnx"},
}


def register_folders() -> None:
    """Adds the model folders that ComfyUI does not know, to what other packs registered."""
    for key, endings in _OWN_FOLDERS.items():
        known = key in folder_paths.folder_names_and_paths
        folder_paths.add_model_folder_path(key, str(Path(folder_paths.models_dir) / key))
        paths, extensions = folder_paths.folder_names_and_paths[key]
        if extensions or not known:  # an empty set of another pack takes every file already
            extensions = set(extensions) | endings
            folder_paths.folder_names_and_paths[key] = (paths, extensions)


def list_names(kind: str) -> list[str]:
    """The choices for one kind of weights: found files, then published ones not yet here."""
    folders = list_diffusers() if kind == "prior" else {}
    names = [
        name
        for key in FOLDERS[kind]
        for name in folder_paths.get_filename_list(key)
        if not folders.keys() & {parent.as_posix() for parent in Path(name).parents}
    ]
    names += folders
    names += [entry.file for entry in manifest.published() if entry.kind == kind]
    return list(dict.fromkeys(names))


def find_folders(keys: Iterable[str], is_one: Callable[[Path, set[str]], bool]) -> dict[str, Path]:
    """The folders of a kind below those of ComfyUI's folder names, by their names.

    Args:
        keys: ComfyUI's folder names.
        is_one: tells by a folder and the names of its files.
    """
    found: dict[str, Path] = {}
    for root in (Path(root) for key in keys for root in folder_paths.get_folder_paths(key)):
        for place, below, files in os.walk(root, followlinks=True):
            folder = Path(place)
            if folder != root and is_one(folder, set(files)):
                below.clear()
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def list_diffusers() -> dict[str, Path]:
    """The folders with a diffusers pipeline or network that works on pixels."""

    def is_one(folder: Path, files: set[str]) -> bool:
        index = files & {"model_index.json", "config.json"}
        return any(
            '"UNet2DModel"' in (folder / file).read_text("utf-8", "replace") for file in index
        )

    return find_folders(FOLDERS["prior"], is_one)


def find_file(kind: str, name: str) -> Path | None:
    """The file of that name in the folders of its kind, or None; a prior's may be a folder."""
    if kind == "prior" and name in (folders := list_diffusers()):
        return folders[name]
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
    entry = next((e for e in manifest.published() if e.file == name and e.kind == kind), None)
    if entry is None:
        if path is None:
            raise MissingWeightsError(
                f"There is no {kind} file named {name!r} in the model folders "
                f"{' and '.join(FOLDERS[kind])}. Choose one of: {', '.join(list_names(kind))}."
            )
        return path
    folder = path.parent if path else Path(folder_paths.get_folder_paths(entry.folder)[0])
    if download:  # of a file that is here already it only checks the sha256
        return downloads.download(entry, folder, on_step=memory.progress())
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
    return f"{name}" if path is None else stamp(path)


def stamp(*paths: Path) -> str:
    """Changes when one of the files does, or one of the files in a folder."""
    files = {file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])}
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        stat = file.stat()
        digest.update(f"{file}:{stat.st_size}:{stat.st_mtime_ns} ".encode(errors="replace"))
    return digest.hexdigest()
