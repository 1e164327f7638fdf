"""The pairs of a single photograph, put into a folder that many machines write to.

They are made in a folder of the worker's own and then put in place: first the images, then a part
of each list whose number follows from the photograph. The part of ``sources.jsonl`` is last and
says that the photograph is done, so what a dead worker leaves does not count. Readers know parts
(`bfr.pairs.folder`): the shared folder is a pairs folder at any moment.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..faces.retinaface import Detector
from ..files.places import is_remote, local_copy
from ..files.sources import Source
from ..files.whole import copy_file
from ..prior.prior import Prior
from ..prior.settings import fingerprint
from ..restore.restorer import Restorer
from .build import build_pairs, crop_size
from .crops import Search
from .folder import KINDS, image_path, in_order, pair_seed, read_lists, same_parameters
from .format import MANIFEST, SOURCES
from .guesses import made_by
from .lines import write_lines
from .pair import Pair
from .settings import PairSettings


@dataclass(frozen=True, slots=True)
class MadeWith:
    """The networks and settings of pairs, as their lines record them.

    Attributes:
        crop: of the crops.
        guess: of the guesses, besides their crop.
        target: of the targets, besides their guess and seed.
        seed: of the set.
    """

    crop: Mapping[str, Any]
    guess: Mapping[str, Any]
    target: Mapping[str, Any]
    seed: int

    def fits(self, pair: Pair) -> bool:
        """True if a pair is complete and made with the same, or rejected by hand."""
        if pair.settled:
            return True
        seed = pair_seed(self.seed, pair.source_sha256, pair.face)
        return pair.complete and all(
            same_parameters(made, wanted)
            for made, wanted in (
                (pair.crop, self.crop),
                (pair.guess, {"lq": pair.sha256["lq"], **self.guess}),
                (pair.target, {"guess": pair.sha256["guess"], "seed": seed, **self.target}),
            )
        )


@dataclass(frozen=True, slots=True)
class Maker:
    """The networks and settings that pairs are made with; arguments of `build_pairs`."""

    detector: Detector
    restorer: Restorer
    prior: Prior
    settings: PairSettings

    def made_with(self) -> MadeWith:
        """The record of them in the lists."""
        settings = self.settings
        sample = settings.sampled_by(self.prior)
        size = crop_size(settings, self.restorer, self.prior)
        return MadeWith(
            Search(self.detector, settings.score, settings.min_size, size).parameters(),
            made_by(self.restorer, settings.fidelity),
            fingerprint(self.prior, sample),
            sample.seed,
        )

    def put(self, source: Source, out: Path) -> int:
        """Makes the pairs of a photograph and puts them into a shared folder.

        Args:
            source: the photograph.
            out: the folder, made by `shared_folder`.

        Returns:
            The number of faces.

        Raises:
            ImageError: if the photograph cannot be read, or something of it cannot be made.
            OutputError: if the folder cannot be written to.
            WeightsError: if a network gives NaN.
        """
        with local_copy(source.path) as path, tempfile.TemporaryDirectory(prefix="bfr-") as name:
            folder, place = Path(name), place_of(source)
            own = Source(path, source.name)
            report = build_pairs(
                [own], folder, self.detector, self.restorer, self.prior, self.settings
            )
            if report.problems:
                raise ImageError("; ".join(problem for _, problem in report.problems))
            pairs, photographs = read_lists(folder)
            (photograph,) = photographs.values()
            for pair in pairs.values():
                for kind in KINDS:
                    copy_file(image_path(folder, kind, pair.name), image_path(out, kind, pair.name))
        lines = [asdict(replace(pair, source=place)) for pair in in_order(pairs.values())]
        if lines:
            write_lines(_part(out, MANIFEST, place), lines)
        write_lines(_part(out, SOURCES, place), [asdict(replace(photograph, path=place))])
        return len(lines)


def place_of(source: Source) -> str:
    """The recorded place of a photograph: its URL, or its absolute path."""
    return str(source.path if is_remote(source.path) else source.path.resolve())


def _part(out: Path, kind: str, place: str) -> Path:
    number = int(hashlib.sha256(place.encode(errors="surrogatepass")).hexdigest()[:15], 16)
    return out / f"{kind}.part{number + 1}.jsonl"  # 0 is the writer's own
