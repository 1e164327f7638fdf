"""The user's files in ComfyUI's folders: which there are, and how they get there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import folder_paths

from ..bfr.errors import InputError, MissingWeightsError
from ..bfr.files import downloads, manifest
from .progress import progress

FOLDERS_VARIABLE = "BFR_FOLDERS"
"""The environment variable with more folders that workflows may read, as ``PATH`` has them."""

# Where each kind of weights is looked for, the first being where it is downloaded to unless
# the manifest names another; the keys are ComfyUI's folder names.
FOLDERS = {
    "detector": ("detection", "facedetection", "ultralytics_bbox"),
    "restorer": ("facerestore_models", "upscale_models"),
    "parser": ("facedetection", "facerestore_models"),
    "prior": ("face_priors", "diffusers"),
    "identity": ("insightface",),
}
# Not known to ComfyUI itself, with the endings of their files.
_OWN_FOLDERS = {
    "facedetection": {".safetensors", ".pth", ".onnx"},
    "facerestore_models": {".safetensors", ".pth", ".ckpt", ".onnx"},
    "face_priors": {".safetensors", ".pth", ".pt"},
    "insightface": {".onnx"},
    "ultralytics_bbox": {".pt", ".onnx"},
}
_ELSEWHERE = {"ultralytics_bbox": "ultralytics/bbox"}  # where other packs keep them


# How the files of models/insightface begin that find faces, swap them or guess ages.
_NO_RECOGNIZERS = ("1k3d68", "2d106det", "det_", "genderage", "scrfd_", "inswapper", "reswapper")


def register_folders() -> None:
    """Adds the model folders that ComfyUI does not know, to what other packs registered."""
    for key, endings in _OWN_FOLDERS.items():
        known = key in folder_paths.folder_names_and_paths
        place = Path(folder_paths.models_dir, _ELSEWHERE.get(key, key))
        folder_paths.add_model_folder_path(key, str(place))
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
    if kind == "identity":
        names = [name for name in names if not Path(name).name.startswith(_NO_RECOGNIZERS)]
    names += [entry.file for entry in manifest.published() if entry.kind == kind]
    return list(dict.fromkeys(names))


def list_missing(kind: str) -> list[manifest.PublishedWeights]:
    """The published files of one kind that are not on this machine."""
    entries = [entry for entry in manifest.published() if entry.kind == kind]
    return [entry for entry in entries if find_file(kind, entry.file) is None]


def find_folders(keys: Iterable[str], is_one: Callable[[Path, set[str]], bool]) -> dict[str, Path]:
    """The folders of a kind below those of ComfyUI's folder names, by their names.

    Links are followed, and each folder is visited once: a link may lead back.

    Args:
        keys: ComfyUI's folder names.
        is_one: decides by a folder and the names of its files.
    """
    found: dict[str, Path] = {}
    visited: set[str] = set()
    for root in (Path(root) for key in keys for root in folder_paths.get_folder_paths(key)):
        for place, below, files in os.walk(root, followlinks=True):
            real = os.path.realpath(place)
            if real in visited:
                below.clear()
                continue
            visited.add(real)
            folder = Path(place)
            if folder != root and is_one(folder, set(files)):
                below.clear()
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def place_below(root: str | Path, name: str) -> Path | None:
    """The path of a name below a folder; None if it is the folder itself or leads out of it.

    It goes by the names: a link that is there was made by the user, and may lead elsewhere.

    Raises:
        InputError: if no file can have the name.
    """
    if "\0" in name or any(len(part.encode(errors="replace")) > 255 for part in Path(name).parts):
        raise InputError(
            f"A folder's name must be shorter and plain, got {name[:60]!r}. Rename it."
        )
    base = Path(os.path.normpath(Path(root).absolute()))
    path = Path(os.path.normpath(base / name))
    return path if path != base and path.is_relative_to(base) else None


def open_roots() -> list[Path]:
    """The folders below which a workflow may read: ComfyUI's, and those that the user adds."""
    roots = [
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.models_dir,
        *folder_paths.get_folder_paths("datasets"),
        *filter(None, os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)),
    ]
    return [Path(root).expanduser() for root in roots]


def user_folder(text: str) -> Path | None:
    """The folder that a text names, in ComfyUI's input folder if it is relative; or None.

    A workflow may come from a stranger, and runs when it is queued. So only folders of
    ComfyUI's, or those that the user adds by `FOLDERS_VARIABLE`, are looked into.

    Raises:
        InputError: if it is another folder.
    """
    text = text.strip().strip('"')
    if not text:
        return None
    roots = open_roots()
    for root in roots:
        path = place_below(root, text) if Path(text).is_absolute() else place_below(roots[0], text)
        if path is not None:
            return path
        if Path(text) == root:
            return root
    raise InputError(
        f"The folder must be inside ComfyUI's input, output, models or datasets folder, got "
        f"{text[:200]!r}. Move or link it into {roots[0]}, or start ComfyUI with the environment "
        f"variable {FOLDERS_VARIABLE} naming it."
    )


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
                f"{kind} must be a file in the model folders {' and '.join(FOLDERS[kind])}, got "
                f"{name!r}. Choose one of: {', '.join(list_names(kind))}."
            )
        return path
    folder = path.parent if path else Path(folder_paths.get_folder_paths(entry.folder)[0])
    if download:  # of a file that is here already it only checks the sha256
        return downloads.download(entry, folder, on_step=progress())
    if path is None:
        raise MissingWeightsError(
            f"{name} must be on this machine, got none: nothing downloads by itself. "
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
    digest = hashlib.sha256()
    for file in sorted(file for path in paths for file in _files(path)):
        with contextlib.suppress(OSError):  # it may not be looked at, or is gone by now
            stat = file.stat()
            digest.update(f"{file}:{stat.st_size}:{stat.st_mtime_ns} ".encode(errors="replace"))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
