"""Places of files: local paths, and URLs of other file systems (s3://, gs://, sftp://) by fsspec.

A URL is a `UPath` of universal-pathlib, which has the methods of `Path`; wherever a file may be
remote, "path" means either. Decoders and encoders work on local files: `local_copy` fetches one,
and `upload` sends one so that others see it whole or not at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from ..errors import FaceRestorationError, ImageError, InputError, MissingPackageError, OutputError


def to_path(place: str | Path) -> Path:
    """The path of a local file or, for ``scheme://…``, the `UPath` of a remote one.

    Raises:
        MissingPackageError: if the scheme needs a package that is not installed.
        InputError: if nothing knows the scheme.
    """
    if is_remote(place):
        return cast(Path, place)
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        return Path(place)
    try:
        from upath import UPath

        path = UPath(text)
        scheme = path.fs.protocol
    except ImportError as error:
        raise MissingPackageError(
            f"{text} needs the package of its file system ({error}). Install it: pip install "
            "universal-pathlib s3fs (docs/scale.md lists others)."
        ) from error
    except ValueError as error:
        raise InputError(
            f"A place must be a path or a URL that fsspec knows, got {text}: {error}. Check its "
            "beginning."
        ) from error
    if "file" in ([scheme] if isinstance(scheme, str) else scheme):
        return Path(path.path)
    return cast(Path, path)


def is_remote(place: object) -> bool:
    """True for a `UPath`, which is not a `Path`."""
    return not isinstance(place, str | Path)


def same_in_every_folder(path: Path) -> Path:
    """The path as other processes can use it, whatever their working folder."""
    return path if is_remote(path) else path.absolute()


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and its sub-folders, sorted; of a remote one in a single listing.

    Raises:
        InputError: if a remote folder cannot be listed.
    """
    if not is_remote(folder):
        return sorted(file for file in folder.rglob("*") if not file.is_dir())
    remote = cast(Any, folder)
    start = remote.path.rstrip("/")
    try:
        names = remote.fs.find(start)
    except FileNotFoundError:
        return []
    except Exception as error:  # each file system has errors of its own
        raise InputError(
            f"{folder} must be a folder that can be listed, got: {error}. Check its name and "
            "permissions."
        ) from error
    below = sorted(name[len(start) :].strip("/").split("/") for name in names)
    return [folder.joinpath(*parts) for parts in below]


def lies_in(path: Path, folder: Path) -> bool:
    """True if a path is the folder or below it; links are followed."""
    if is_remote(path) or is_remote(folder):
        return str(path) == str(folder) or str(path).startswith(f"{str(folder).rstrip('/')}/")
    return path.resolve().is_relative_to(folder.resolve())


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """The file itself, or for the length of the block a local copy of a remote one.

    Errors in the block name the file, not its copy.

    Raises:
        ImageError: if it cannot be fetched.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bfr-") as folder:
        copy = Path(folder) / path.name
        try:
            with path.open("rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except Exception as error:  # each file system has errors of its own
            raise ImageError(
                f"Cannot fetch {path}: {type(error).__name__}: {error}. Check its name and your "
                "permissions, and run the same again."
            ) from error
        try:
            yield copy
        except FaceRestorationError as error:  # the copy's name would say nothing
            raise type(error)(str(error).replace(str(copy), str(path))) from error


@contextmanager
def upload(path: Path) -> Iterator[Path]:
    """A local path whose file becomes the remote one when the block ends well.

    fsspec commits it as a whole: in an object store by one put or by completing a multipart
    upload, elsewhere by moving a temporary file.

    Raises:
        OutputError: if it cannot be sent.
    """
    remote = cast(Any, path)
    with tempfile.TemporaryDirectory(prefix="bfr-") as folder:
        partial = Path(folder) / "result"
        yield partial
        try:
            with suppress(NotImplementedError):  # object stores have no folders
                remote.fs.makedirs(remote.fs._parent(remote.path), exist_ok=True)
            sent = remote.fs.open(remote.path, "wb", autocommit=False)
            try:
                with partial.open("rb") as source:
                    shutil.copyfileobj(source, sent, 1 << 20)
                sent.close()
                sent.commit()
            except BaseException:
                sent.discard()
                raise
        except Exception as error:
            raise OutputError(
                f"Cannot write {path}: {type(error).__name__}: {error}. Check its name and your "
                "permissions, and run the same again."
            ) from error
