"""Scores of the optional package pyiqa: MUSIQ, MANIQA, FID and many more, by their names there.

Its licence (PolyForm Noncommercial 1.0.0, in parts the S-Lab License 1.0) and those of many of its
networks forbid commercial use. It downloads the weights of a score when that is first used, and
reads them as it sees fit; the log names both.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MissingPackageError
from ..files.photos import Photo
from ..files.writing import write_photo

log = logging.getLogger(__name__)

LICENCE = (
    "Its licence (PolyForm Noncommercial 1.0.0, in parts S-Lab License 1.0) and those of many of "
    "its networks forbid commercial use"
)
_EXAMPLES = ("musiq", "maniqa", "fid")


@dataclass(frozen=True, slots=True)
class Score:
    """A score of pyiqa.

    Attributes:
        name: what pyiqa calls it.
        lower_is_better: or else higher.
        needs_reference: whether it compares with clean faces.
        whole: whether it is one of all faces together, as FID is.
        measure: ``measure(faces, reference)``, both N×3×H×W RGB in [0, 1], the latter None where
            none is needed; gives N values, or one if ``whole``.
    """

    name: str
    lower_is_better: bool
    needs_reference: bool
    whole: bool
    measure: Callable[[Tensor, Tensor | None], Tensor]


def load_score(name: str, device: torch.device | str = "cpu") -> Score:
    """Loads a score, whose weights pyiqa downloads if they are not on this machine.

    Raises:
        MissingPackageError: without pyiqa.
        InputError: if it has no such score, or cannot load it.
    """
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackageError(
            f"The score {name!r} needs the package pyiqa. Install it: pip install pyiqa. "
            f"{LICENCE}. It downloads the weights of a score when you first use it."
        ) from error
    known = pyiqa.list_models()
    if name not in known:
        near = get_close_matches(name, known, 5, 0.4) or _EXAMPLES
        raise InputError(
            f"A score must be one of pyiqa's, got {name!r}. Choose one such as {', '.join(near)}; "
            "pyiqa.list_models() names all."
        )
    log.warning(
        "%s comes from pyiqa, which downloads its weights if they are not here. %s.", name, LICENCE
    )
    try:
        network = pyiqa.create_metric(name, device=torch.device(device))
    except Exception as error:  # of a download, a file, a package: pyiqa has no errors of its own
        raise InputError(
            f"pyiqa must load the score {name}, got {type(error).__name__}: {error}. Check the "
            "network, or leave this score out."
        ) from error
    whole = "fid" in name
    compares = whole or network.metric_mode == "FR"
    measure = _of_folders if whole else _of_each

    def run(faces: Tensor, reference: Tensor | None) -> Tensor:
        return measure(network, faces, reference if compares else None)

    return Score(name, bool(network.lower_better), compares, whole, run)


def _of_each(network: Any, faces: Tensor, reference: Tensor | None) -> Tensor:
    """One face after the other: some networks of pyiqa take no batch."""
    pairs = zip(faces.split(1), *([] if reference is None else [reference.split(1)]), strict=True)
    return torch.stack([torch.as_tensor(network(*pair)).flatten()[0] for pair in pairs])


def _of_folders(network: Any, faces: Tensor, reference: Tensor | None) -> Tensor:
    """All faces together, which pyiqa takes from two folders."""
    assert reference is not None
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("restored", "reference")]
        for path, images in zip(paths, (faces, reference), strict=True):
            path.mkdir()
            for number, image in enumerate(images.split(1)):
                write_photo(path / f"{number:06}.png", Photo(image))
        value = network(*map(str, paths), num_workers=0, verbose=False)
    return torch.as_tensor(value).flatten()[:1]
