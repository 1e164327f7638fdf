"""Evaluation of the face detector on held-out pictures, with sheets to look at."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bfr.faces.detect import detect_faces
from bfr.faces.overlay import draw_faces
from bfr.faces.retinaface import Detector, load_detector
from bfr.files.photos import read_photo
from bfr.records import FaceSet

from .detector import load_finished
from .detector_labels import Labels
from .detector_samples import first_face, load_source
from .faces import LabelledImage, held_out, read_keypoints
from .grids import reduced, write_worst
from .groups import by_group

log = logging.getLogger(__name__)
_DRAWN = {13, 45, 52, 56, 77, 80, 90, 91, 107, 120, 138, 141, 151, 159, 193}
"""Numbers of the old scans that show a drawing, an engraving or a painting, judged by eye."""


def faceless_images(data: Path, detector: Detector) -> Iterator[Tensor]:
    """Held-out pictures without a face: portraits cut below the chin, and scikit-image's own."""
    for folder in ("eval/hq", "real_lq/portraits_eval"):
        for path in sorted((data / folder).iterdir()):
            image = read_photo(path).pixels
            faces = detect_faces(image, detector, score=0.8, try_rotations=False).faces[0]
            chin = max((face.box[3] for face in faces), default=image.shape[-2])
            body = image[..., round(chin) + 8 :, :]
            if len(faces) == 1 and min(body.shape[-2:]) >= 64:
                yield body
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    people = ("astronaut", "camera", "multipage", "phantom")
    for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*.jpg")):
        if not path.name.startswith(people):
            yield read_photo(path).pixels


def landmark_error(image: LabelledImage, found: FaceSet) -> float:
    """Mean distance of the nearest face's landmarks, in eye distances; inf where it was missed."""
    truth = image.landmarks[0]
    wide = np.linalg.norm(truth[1] - truth[0])
    gaps = [np.linalg.norm(np.array(f.landmarks) - truth, axis=1).mean() for f in found.faces[0]]
    error = min(gaps, default=np.inf) / wide
    return float(error) if error < 0.5 else np.inf


def looks_ahead(image: LabelledImage) -> bool:
    """True if the nose is near the middle between the eyes, as on portraits."""
    left, right, nose = image.landmarks[0][:3]
    return bool(abs((nose - left) @ (right - left) / np.sum((right - left) ** 2) - 0.5) < 0.2)


def evaluate(data: Path, run: Path | None, grids: Path | None) -> dict[str, float]:
    """Held-out figures: share found, landmark error, faces of the group photograph.

    Args:
        data: the data folder.
        run: of the training; None for the embedded weights.
        grids: folder for sheets of 24 pictures with what was found in them: the landmark frames
            (worst first), the old scans (those without a face first), and those without a face
            (false alarms first); None draws none.
    """
    detector = Detector(load_finished(run)) if run is not None else load_detector()
    figures: dict[str, float] = {}

    def look(images: Iterable[Tensor]) -> tuple[list[FaceSet], list[Tensor]]:
        """The faces of each picture, and small pictures of them where sheets are asked for."""
        found, drawn = [], []
        for image in images:
            found.append(detect_faces(image, detector))
            if grids is not None:
                drawn.append(reduced(draw_faces(image, found[-1])))
        return found, drawn

    def show(name: str, drawn: list[Tensor], quality: np.ndarray) -> None:
        if grids is not None:
            write_worst(grids / f"{name}.png", drawn, torch.from_numpy(quality))

    labelled = [image for image in read_keypoints(data) if held_out(image.path)]
    for folder in ("keypoints", "keypoints5"):
        held = [image for image in labelled if folder == image.path.parent.parent.name]
        found, drawn = look(read_photo(image.path).pixels for image in held)
        errors = np.array([landmark_error(*each) for each in zip(held, found, strict=True)])
        show(folder, drawn, -errors)
        crops = torch.cat([first_face(load_source(Labels(image))) for image in held])
        seen = torch.from_numpy(np.isfinite(errors)).float()
        log.info("%s found by lightness of the skin: %s", folder, by_group(100 * seen, crops))
        ahead = np.array([looks_ahead(image) for image in held]) & np.isfinite(errors)
        figures[f"{folder} found, looking ahead"] = float(np.mean(ahead))
        figures[f"{folder} error, looking ahead"] = float(np.mean(errors[ahead]))
        errors = errors[np.isfinite(errors)]
        figures[f"{folder} found"] = len(errors) / len(held)
        figures[f"{folder} error"] = float(np.mean(errors))
        figures[f"{folder} median error"] = float(np.median(errors))
    for folder in ("eval/hq", "real_lq/portraits_eval", "real_lq/aligned512"):
        found, drawn = look(read_photo(path).pixels for path in sorted((data / folder).iterdir()))
        counts = np.array([faces.count for faces in found])
        show(folder.rpartition("/")[2], drawn, counts)
        figures[f"{folder} found"] = float(np.mean(counts >= 1))
        figures[f"{folder} more than one"] = float(np.mean(counts > 1))
        if folder.endswith("portraits_eval"):
            photographs = [n for n in range(len(counts)) if n not in _DRAWN]
            figures["photographs among them found"] = float(np.mean(counts[photographs] >= 1))
    found, drawn = look(faceless_images(data, detector))
    alarms = np.array([faces.count for faces in found])
    show("faceless", drawn, -alarms)
    figures["images without faces"] = len(alarms)
    figures["false alarms an image"] = float(np.mean(alarms > 0))
    group = read_photo(data / "real_lq/whole/solvay_conference_1927.png").pixels
    figures["group of 29"] = detect_faces(group, detector).count
    for name, value in figures.items():
        log.info("%-36s %.4f", name, value)
    return figures
