"""The first half of a pseudo-target set: faces out of photographs, aligned, as crops on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ImageError, OutputError, WeightsError
from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.retinaface import Detector
from ..files.checksums import file_sha256
from ..files.photos import read_photo
from ..files.sources import Source
from ..records import counted
from ..runtime.progress import SCALE
from .folder import in_order, pair_name, same_parameters
from .pair import Pair, Photograph
from .run import Run
from .writer import PairWriter

FOUND = SCALE // 20
"""Where this half ends, of all the progress."""


@dataclass(frozen=True, slots=True)
class Search:
    """The settings by which faces are found and cut out.

    Attributes:
        detector: of `load_detector`.
        score: least confidence in [0, 1] of a face.
        min_size: least longer box side in pixels of a face.
        size: side of the crops in pixels.
    """

    detector: Detector
    score: float
    min_size: float
    size: int

    def parameters(self) -> dict[str, Any]:
        """All that the crops of a photograph depend on, besides the photograph."""
        name = type(self.detector.network).__name__
        return {
            "detector": {"name": name, "sha256": self.detector.sha256},
            "score": self.score,
            "min_size": self.min_size,
            "size": self.size,
        }


def identify(run: Run, sources: Sequence[Source]) -> list[Photograph]:
    """The photographs behind the sources, each once; a file is read only if it changed."""
    writer = run.writer
    mine = {str(source.path.resolve()) for source in writer.share.of(sources)}
    known = writer.photographs
    unread = [path for path in sorted(mine) if path not in known or not is_fresh(known[path])]
    run.progress.begin("photographs read", len(unread), (0, 0))
    for done, path in enumerate(unread, 1):
        try:
            stat, sha256 = Path(path).stat(), file_sha256(Path(path))
        except OSError as error:
            reason = error.strerror or error
            run.fail(path, ImageError(f"Cannot read it: {reason}. Check the file's permissions."))
        else:
            photograph = Photograph(path, stat.st_size, stat.st_mtime_ns, sha256)
            if path in known and known[path].sha256 == sha256:
                photograph = replace(
                    known[path], bytes=photograph.bytes, modified=photograph.modified
                )
            writer.put_photograph(photograph)
        run.progress.tell(done)
    writer.sync()
    unique: dict[str, Photograph] = {}
    for path in dict.fromkeys(str(source.path.resolve()) for source in sources):
        photograph = writer.photographs.get(path)
        if photograph is None or not is_fresh(photograph):
            continue  # reported above
        first = unique.setdefault(photograph.sha256, photograph)
        if first is not photograph:
            run.report.duplicates.append((path, first.path))
            run.progress.say(f"{path}: the same file as {first.path}, taken once")
    return list(unique.values())


def is_fresh(photograph: Photograph) -> bool:
    """True if a file is still as long and as old as when its checksum was taken."""
    try:
        stat = Path(photograph.path).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (photograph.bytes, photograph.modified)


def find_faces(run: Run, photographs: Sequence[Photograph], search: Search) -> list[Pair]:
    """Detects, aligns and writes the crops of the photographs that need it; all their pairs."""
    writer, wanted = run.writer, search.parameters()
    known = {(pair.source_sha256, pair.face): pair for pair in writer.pairs.values()}
    present = {photograph.sha256 for photograph in photographs}
    stale: list[Photograph] = []
    for photograph in photographs:
        try:
            if not _is_current(writer, photograph, known, wanted):
                stale.append(photograph)
        except ImageError as error:  # a crop that was exchanged stays, and is reported
            run.fail(photograph.path, error)
    mine = writer.share.of(stale)
    related = _by_source(writer.pairs.values())
    run.progress.begin("photographs searched", len(mine), (0, FOUND))
    for done, photograph in enumerate(mine, 1):
        try:
            faces = _write_crops(writer, photograph, search, known, wanted)
            _drop_vanished(run, photograph, faces, present, related)
            run.progress.say(
                f"{photograph.path}: {counted(faces, 'face') if faces else 'no faces'}"
            )
        except (OutputError, WeightsError):
            raise
        except Exception as error:
            run.fail(photograph.path, error)
        run.report.searched += 1
        run.progress.tell(done)
    writer.sync()
    found = [writer.photographs[photograph.path] for photograph in photographs]
    run.report.faceless += [photograph.path for photograph in found if photograph.faces == 0]
    return [
        pair
        for pair in in_order(writer.pairs.values())
        if pair.source_sha256 in present and same_parameters(pair.crop, wanted)
    ]


Known = Mapping[tuple[str, int], Pair]
"""Pairs by their photograph's checksum and their face's number in it."""


def _is_current(
    writer: PairWriter, photograph: Photograph, known: Known, wanted: Mapping[str, Any]
) -> bool:
    """True if a photograph was searched in the wanted way and its crops are there."""
    if photograph.faces is None or not same_parameters(photograph.crop, wanted):
        return False
    pairs = [known.get((photograph.sha256, face)) for face in range(photograph.faces)]
    return all(
        pair is not None
        and pair.source == photograph.path
        and (pair.settled or writer.has_image(pair, "lq"))
        for pair in pairs
    )


def _by_source(pairs: Iterable[Pair]) -> Mapping[str, list[Pair]]:
    """Pairs by their photograph's path, and by its checksum."""
    related: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        related[pair.source].append(pair)
        related[pair.source_sha256].append(pair)
    return related


def _write_crops(
    writer: PairWriter,
    photograph: Photograph,
    search: Search,
    known: Known,
    wanted: dict[str, Any],
) -> int:
    """Finds the faces of a photograph and writes their crops; how many there are."""
    pixels = read_photo(photograph.path).pixels
    found = detect_faces(pixels, search.detector, score=search.score, min_size=search.min_size)
    crops, alignment = align_faces(pixels, found, search.size)
    for number, face in enumerate(alignment.faces):
        pair = Pair(
            name=pair_name(photograph.path, photograph.sha256, number),
            source=photograph.path,
            source_sha256=photograph.sha256,
            face=number,
            image_to_crop=alignment.image_to_crop[number].tolist(),
            landmarks=[list(point) for point in face.landmarks],
            score=face.score,
        )
        old = known.get((photograph.sha256, number))
        put_crop(writer, pair, old, crops[number : number + 1], wanted)
    size = (pixels.shape[2], pixels.shape[3])
    writer.put_photograph(replace(photograph, faces=len(alignment), crop=wanted, size=size))
    return len(alignment)


def _drop_vanished(
    run: Run,
    photograph: Photograph,
    faces: int,
    present: set[str],
    related: Mapping[str, list[Pair]],
) -> None:
    """Deletes the pairs of faces that a photograph no longer shows."""
    for pair in related.get(photograph.path, ()):
        if pair.source_sha256 not in present:
            run.drop(pair)
    for pair in related.get(photograph.sha256, ()):
        if pair.face >= faces:
            run.drop(pair)


def put_crop(
    writer: PairWriter, pair: Pair, old: Pair | None, crop: Tensor, wanted: dict[str, Any]
) -> None:
    """Writes a pair's crop; what was made of an earlier one stays, if the crop is the same."""
    if old is not None:
        (old,) = writer.forget([old], "lq")
        pair = replace(
            old,
            source=pair.source,
            image_to_crop=pair.image_to_crop,
            landmarks=pair.landmarks,
            score=pair.score,
        )
    writer.put([replace(writer.write_image(pair, "lq", crop), crop=wanted)])
