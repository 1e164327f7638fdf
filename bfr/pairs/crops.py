"""The first half of a pseudo-target set: faces out of photographs, aligned, as crops on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FaceRestorationError, ImageError, InputError, OutputError, WeightsError
from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.retinaface import Detector
from ..files.checksums import file_sha256
from ..files.photos import read_photo
from ..files.sources import Source
from ..image.geometry import face_template
from ..records import counted
from ..runtime.progress import SCALE, Progress
from .folder import Pair, Photograph, in_order, pair_name, same_parameters
from .writer import PairWriter, as_written, pixels_sha256

FOUND = SCALE // 20
"""Where this half ends, of all the progress."""


@dataclass(slots=True)
class Run:
    """One call of `build_pairs`, and its report as it grows."""

    writer: PairWriter
    progress: Progress
    searched: int = 0
    guessed: int = 0
    sampled: int = 0
    removed: int = 0
    faceless: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, where: str, error: Exception) -> None:
        known = isinstance(error, FaceRestorationError)
        problem = str(error) if known else f"{type(error).__name__}: {error}"
        self.problems.append((where, problem))
        self.progress.say(f"{where}: failed{'' if known else ' unexpectedly'}: {problem}")

    def drop(self, pair: Pair) -> None:
        self.writer.drop(pair)
        self.removed += 1


def identify(run: Run, sources: Sequence[Source]) -> list[Photograph]:
    """The photographs behind the sources, each once; a file is read only if it changed."""
    writer = run.writer
    mine = {str(source.path.resolve()) for source in writer.share.of(sources)}
    known = writer.photographs
    unread = [path for path in sorted(mine) if path not in known or not _is_fresh(known[path])]
    run.progress.begin("photographs read", len(unread), (0, 0))
    for done, path in enumerate(unread, 1):
        try:
            stat, sha256 = Path(path).stat(), file_sha256(Path(path))
        except OSError as error:
            run.fail(path, ImageError(f"It cannot be read: {error.strerror or error}."))
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
        if photograph is None or not _is_fresh(photograph):
            continue  # told above
        first = unique.setdefault(photograph.sha256, photograph)
        if first is not photograph:
            run.duplicates.append((path, first.path))
            run.progress.say(f"{path}: the same file as {first.path}, taken once")
    return list(unique.values())


def _is_fresh(photograph: Photograph) -> bool:
    """Whether a file is still as long and as old as when its checksum was taken."""
    try:
        stat = Path(photograph.path).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (photograph.bytes, photograph.modified)


def find_faces(
    run: Run,
    photographs: Sequence[Photograph],
    detector: Detector,
    score: float,
    min_size: float,
    size: int,
) -> list[Pair]:
    """Detects, aligns and writes the crops of the photographs that need it; all their pairs."""
    writer = run.writer
    wanted = {
        "detector": {"name": type(detector.network).__name__, "sha256": detector.sha256},
        "score": score,
        "min_size": min_size,
        "size": size,
    }
    known = {(pair.source_sha256, pair.face): pair for pair in writer.pairs.values()}
    related: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in writer.pairs.values():
        related[pair.source].append(pair)
        related[pair.source_sha256].append(pair)
    present = {photograph.sha256 for photograph in photographs}

    def is_done(photograph: Photograph) -> bool:
        if photograph.faces is None or not same_parameters(photograph.crop, wanted):
            return False
        pairs = [known.get((photograph.sha256, face)) for face in range(photograph.faces)]
        return all(
            pair is not None
            and pair.source == photograph.path
            and (pair.settled or writer.has_image(pair, "lq"))
            for pair in pairs
        )

    def search(photograph: Photograph) -> None:
        pixels = read_photo(photograph.path).pixels
        found = detect_faces(pixels, detector, score=score, min_size=min_size)
        crops, alignment = align_faces(pixels, found, size)
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
            _put_crop(writer, pair, old, crops[number : number + 1], wanted)
        for pair in related[photograph.path]:
            if pair.source_sha256 not in present:
                run.drop(pair)
        for pair in related[photograph.sha256]:
            if pair.face >= len(alignment):
                run.drop(pair)
        image_size = (pixels.shape[2], pixels.shape[3])
        writer.put_photograph(
            replace(photograph, faces=len(alignment), crop=wanted, size=image_size)
        )
        found = counted(len(alignment.faces), "face") if alignment.faces else "no faces"
        run.progress.say(f"{photograph.path}: {found}")

    mine = writer.share.of([photo for photo in photographs if not is_done(photo)])
    run.progress.begin("photographs searched", len(mine), (0, FOUND))
    for done, photograph in enumerate(mine, 1):
        try:
            search(photograph)
        except (OutputError, WeightsError):
            raise
        except Exception as error:
            run.fail(photograph.path, error)
        run.searched += 1
        run.progress.tell(done)
    writer.sync()
    found = [writer.photographs[photograph.path] for photograph in photographs]
    run.faceless += [photograph.path for photograph in found if photograph.faces == 0]
    return [
        pair
        for pair in in_order(writer.pairs.values())
        if pair.source_sha256 in present and same_parameters(pair.crop, wanted)
    ]


def take_crops(
    run: Run,
    crops: Tensor,
    names: Sequence[str],
    detector: Detector | None,
    score: float,
) -> dict[str, int]:
    """Writes crops that came aligned; the numbers of those taken by the names of their pairs."""
    writer = run.writer
    known = {(pair.source_sha256, pair.face): pair for pair in writer.pairs.values()}
    taken: dict[str, int] = {}
    first: dict[str, str] = {}
    run.progress.begin("crops taken", len(crops), (0, FOUND))
    for number, name in enumerate(names):
        crop = as_written(crops[number : number + 1])
        size = crop.shape[-1]
        face = face_template(size), 1.0
        sha256 = pixels_sha256(crop)
        if sha256 in first:
            run.duplicates.append((name, first[sha256]))
            run.progress.say(f"{name}: the same as {first[sha256]}, taken once")
            continue
        first[sha256] = name
        old = known.get((sha256, 0))
        if detector is not None and not (old and old.settled):
            found = detect_faces(crop, detector, score=score, try_rotations=False).faces[0]
            run.searched += 1
            if not found:
                run.fail(name, InputError("It shows no face; leave it out, or align it again."))
                continue
            face = torch.tensor(found[0].landmarks), found[0].score
        pair = Pair(
            name=pair_name(name, sha256, 0),
            source=name,
            source_sha256=sha256,
            face=0,
            image_to_crop=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            landmarks=face[0].tolist(),
            score=face[1],
        )
        taken[old.name if old else pair.name] = number
        mine = number % writer.share.count == writer.share.rank
        if mine and not (old and writer.has_image(old, "lq") and old.crop == {"size": size}):
            _put_crop(writer, pair, old, crop, {"size": size})
        run.progress.tell(number + 1)
    writer.sync()
    return taken


def _put_crop(
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
