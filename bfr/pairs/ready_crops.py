"""Crops of a pseudo-target set that are already aligned, from a node or a folder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import ImageError, InputError
from ..faces.detect import detect_faces
from ..faces.landmarks import landmarks_of
from ..faces.retinaface import Detector
from ..image.geometry import face_template
from .crops import FOUND, put_crop
from .folder import pair_name
from .pair import Pair
from .run import Run
from .writer import PairWriter, as_written, pixels_sha256


def take_crops(
    run: Run,
    crops: Tensor,
    names: Sequence[str],
    detector: Detector | None,
    score: float,
) -> dict[str, int]:
    """Writes aligned crops; returns the numbers of those taken by the names of their pairs."""
    writer = run.writer
    known = {(pair.source_sha256, pair.face): pair for pair in writer.pairs.values()}
    taken: dict[str, int] = {}
    first: dict[str, str] = {}
    run.progress.begin("crops taken", len(crops), (0, FOUND))
    for number, name in enumerate(names):
        crop = as_written(crops[number : number + 1])
        sha256 = pixels_sha256(crop)
        if sha256 in first:
            run.report.duplicates.append((name, first[sha256]))
            run.progress.say(f"{name}: the same as {first[sha256]}, taken once")
            continue
        first[sha256] = name
        old = known.get((sha256, 0))
        landmarks, confidence = face_template(crop.shape[-1]), 1.0
        if detector is not None and not (old and old.settled):
            found = detect_faces(crop, detector, score=score, try_rotations=False).faces[0]
            run.report.searched += 1
            if not found:
                run.fail(
                    name,
                    InputError("It must show a face, got none. Leave it out, or align it again."),
                )
                continue
            landmarks, confidence = landmarks_of(found[:1])[0].float(), found[0].score
        pair = Pair(
            name=pair_name(name, sha256, 0),
            source=name,
            source_sha256=sha256,
            face=0,
            image_to_crop=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            landmarks=landmarks.tolist(),
            score=confidence,
        )
        try:
            _take_crop(writer, pair, old, crop, mine=number in writer.share.of(range(len(names))))
        except ImageError as error:  # it was exchanged
            run.fail(name, error)
            continue
        taken[old.name if old else pair.name] = number
        run.progress.tell(number + 1)
    writer.sync()
    return taken


def _take_crop(writer: PairWriter, pair: Pair, old: Pair | None, crop: Tensor, mine: bool) -> None:
    wanted = {"size": crop.shape[-1]}
    current = old is not None and writer.has_image(old, "lq") and old.crop == wanted
    if mine and not current:
        put_crop(writer, pair, old, crop, wanted)
