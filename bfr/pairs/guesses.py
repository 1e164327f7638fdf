"""First guesses: from a restorer, or from another tool that worked on the same photographs."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files.checksums import file_sha256
from ..files.photos import read_photo
from ..files.sources import Source, find_sources
from ..image.crops import cut_crops
from ..image.geometry import compose, resize_matrix
from ..image.resize import resize_square
from ..records import OnStep
from ..restore.restorer import Restorer, restore_faces
from .folder import read_image
from .pair import Pair, Photograph
from .writer import as_written, pixels_sha256

_OUT_OF_PROPORTION = 0.02  # of the sides' ratio: more than rounding when a photograph is scaled


@dataclass(frozen=True, slots=True)
class Guess:
    """The file that holds a pair's guess.

    Attributes:
        path: the file.
        whole: true for the whole photograph, false for the aligned face.
    """

    path: Path
    whole: bool


class GuessFolder:
    """A folder with the guesses of some photographs, or with their targets.

    It holds aligned faces with the pairs' names, or restored photographs, upscaled or not, with
    the names that their sources have below their folder; the suffix may differ.

    Raises:
        InputError: if the folder is missing or holds no image.
    """

    def __init__(self, folder: Path, sources: Iterable[Source], what: str = "guess"):
        self.folder, self._what = folder, what
        self._files: defaultdict[str, list[Path]] = defaultdict(list)
        for found in find_sources([folder]):
            self._files[_stem(found.name)].append(found.path)
        self._names = {str(source.path.resolve()): source.name for source in sources}
        self._claims: defaultdict[Path, list[PurePath]] = defaultdict(list)
        for name in self._names.values():
            for path in self._candidates(name):
                self._claims[path].append(name)

    def find(self, pair: Pair) -> Guess:
        """The guess of a pair.

        Raises:
            InputError: if there is none, or more than one.
        """
        name = self._names[pair.source]
        faces, wholes = self._candidates(PurePath(f"{pair.name}.png")), self._candidates(name)
        found = faces or wholes
        if not found:
            raise InputError(
                f"{self.folder} must hold a {self._what} of {name}, got none: neither the restored "
                f"photograph under its own name, nor its aligned face as {pair.name}.png."
            )
        others = [other for other in self._claims[found[0]] if not faces]
        if len(found) > 1 or (len(others) > 1 and not self._is_only(found[0], name)):
            raise InputError(
                f"{found[0]} must be the only {self._what} of {name} and of nothing else, got also "
                f"{', '.join(map(str, found[1:] or others))}. Name the aligned face "
                f"{pair.name}.png instead."
            )
        return Guess(found[0], not faces)

    def _candidates(self, name: PurePath) -> list[Path]:
        """The files of that name: with the same suffix, or else with any."""
        found = self._files.get(_stem(name), [])
        return [path for path in found if path.suffix == name.suffix] or found

    def _is_only(self, path: Path, name: PurePath) -> bool:
        """True if a file has the suffix of just this one of the sources that claim it."""
        exact = [other for other in self._claims[path] if other.suffix == path.suffix]
        return exact == [name]


def cut_guess(
    pixels: Tensor, whole: bool, source_size: Sequence[int], pair: Pair, size: int
) -> Tensor:
    """The aligned face, cut out of a guess.

    Args:
        pixels: 1×3×H×W RGB in [0, 1], the guess as it was read.
        whole: whether it is the whole photograph.
        source_size: (height, width) of the upright source.
        pair: whose guess it is.
        size: side of the crop in pixels.

    Returns:
        1×3×size×size in [0, 1].

    Raises:
        InputError: if a face is not square, or a photograph has other proportions than its source.
    """
    height, width = pixels.shape[-2:]
    if not whole:
        if height != width:
            raise InputError(
                f"An aligned guess must be square, got {width}×{height} pixels for {pair.name}. "
                "Align it, or give guesses of whole photographs."
            )
        return resize_square(pixels, size).clamp(0, 1)
    if abs(height * source_size[1] / (width * source_size[0]) - 1) > _OUT_OF_PROPORTION:
        raise InputError(
            f"The guess of {pair.source} must have its proportions, {source_size[1]}×"
            f"{source_size[0]} pixels, got {width}×{height}: it was cropped or turned. Restore the "
            "whole photograph, at any scale."
        )
    to_crop = torch.tensor(pair.image_to_crop, dtype=torch.float64)
    matrix = compose(resize_matrix((height, width), (source_size[0], source_size[1])), to_crop)
    return cut_crops(pixels, matrix[None], (0,), size)


@dataclass(frozen=True, slots=True)
class Guesses:
    """The source of a set's guesses, or of targets made elsewhere.

    Attributes:
        parameters: all that a pair's guess depends on besides its crop.
        make: the guesses N×3×S×S in [0, 1] of N pairs; takes a callback for progress.
        at_once: the most pairs that ``make`` is called with.
    """

    parameters: Callable[[Pair], dict[str, Any]]
    make: Callable[[Sequence[Pair], OnStep | None], Tensor]
    at_once: int = 1


def made_by(restorer: Restorer, fidelity: float) -> dict[str, Any]:
    """All that a restorer's guesses depend on besides their crops."""
    network = {"name": restorer.architecture, "sha256": restorer.sha256}
    parameters: dict[str, Any] = {"restorer": network}
    if restorer.computed_in != "float32":  # which folders of earlier versions do not mention
        parameters["precision"] = restorer.computed_in
    if restorer.uses_fidelity:
        parameters["fidelity"] = fidelity
    return parameters


def from_restorer(folder: Path, restorer: Restorer, fidelity: float, batch_size: int) -> Guesses:
    """Guesses that a restorer makes of the crops in a pairs folder."""
    parameters = made_by(restorer, fidelity)

    def make(pairs: Sequence[Pair], on_step: OnStep | None) -> Tensor:
        crops = torch.cat([read_image(folder, "lq", pair) for pair in pairs])

        def report(done: int, total: int, preview: Tensor | None) -> None:
            if on_step is not None:
                on_step(done, total, None)  # pictures are shown of targets alone

        return restore_faces(
            crops, restorer, fidelity=fidelity, batch_size=batch_size, on_step=report
        )

    return Guesses(lambda pair: parameters, make, batch_size)


def from_folder(folder: GuessFolder, photographs: Mapping[str, Photograph], size: int) -> Guesses:
    """Guesses cut out of a folder's images; the photographs are known by their paths."""
    sha256 = lru_cache(maxsize=None)(file_sha256)
    read = lru_cache(maxsize=1)(read_photo)  # a photograph with many faces, once

    def parameters(pair: Pair) -> dict[str, Any]:
        guess = folder.find(pair)
        file = {"name": guess.path.name, "sha256": sha256(guess.path), "whole": guess.whole}
        return {"file": file}

    def make(pairs: Sequence[Pair], on_step: OnStep | None) -> Tensor:
        guesses = [(folder.find(pair), pair) for pair in pairs]
        faces = [
            cut_guess(
                read(guess.path).pixels, guess.whole, photographs[pair.source].size, pair, size
            )
            for guess, pair in guesses
        ]
        return torch.cat(faces)

    return Guesses(parameters, make)


def from_tensors(guesses: Tensor, numbers: Mapping[str, int]) -> Guesses:
    """Guesses that are images already, N×3×S×S in [0, 1]; the number of each by its pair's name."""

    def image(pair: Pair) -> Tensor:
        number = numbers[pair.name]
        return as_written(guesses[number : number + 1])

    def parameters(pair: Pair) -> dict[str, Any]:
        return {"image": {"sha256": pixels_sha256(image(pair))}}

    def make(pairs: Sequence[Pair], on_step: OnStep | None) -> Tensor:
        return torch.cat([image(pair) for pair in pairs])

    return Guesses(parameters, make)


def _stem(name: PurePath) -> str:
    """A name below a folder, without suffix and in one spelling of its accents."""
    return unicodedata.normalize("NFC", name.with_suffix("").as_posix())
