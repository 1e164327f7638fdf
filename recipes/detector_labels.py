"""Labels of the face detector: published landmarks, and portraits labelled by two teachers.

The first teacher is the detector as trained so far, looking straight and in a mirror. The second
is dlib's CNN detector (`recipes.second_teacher`), trained on other data; it is asked about the
portraits in which the first found no single sure face.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from bfr.faces.detect import SEARCH_SIZES, detect_faces
from bfr.faces.retinaface import Detector, build_detector
from bfr.files.photos import read_photo
from bfr.files.whole import atomic_path
from bfr.image.geometry import MIRROR_ORDER

from .faces import TRAIN_FOLDERS, LabelledImage, held_out, landmark_boxes, read_keypoints
from .frame import load_average

log = logging.getLogger(__name__)
SURE = 0.5  # confidence from which dlib's detector is believed; it reports from 0 on


@dataclass(frozen=True, slots=True)
class Labels:
    """A labelled image; boxes are N×4, all in pixels.

    Attributes:
        image: the file and its landmarks.
        exact: the landmarks are published ones, good enough to learn points from.
        ignored: what may be a face, and is left out of the loss.
        alarms: what a detector took for a face and is none.
    """

    image: LabelledImage
    exact: bool = True
    ignored: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    alarms: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))


def read_labels(data: Path, file: Path | None, train: bool) -> list[Labels]:
    """The labelled images of one side of the split; those of the teachers if a file is given."""
    labels = [Labels(image) for image in read_keypoints(data)]
    if file is not None:
        for name, label in json.loads(file.read_text()).items():
            points = np.array(label["landmarks"], np.float32).reshape(-1, 5, 2)
            boxes = (np.array(label[kind], np.float32) for kind in ("ignored", "alarms"))
            ignored, alarms = (box.reshape(-1, 4) for box in boxes)
            labels.append(Labels(LabelledImage(data / name, points), False, ignored, alarms))
    return [each for each in labels if held_out(each.image.path) != train]


def label(data: Path, run: Path, teacher: Path | None = None) -> None:
    """Labels the portraits that show one sure face, and writes `labels.json` into the run.

    Args:
        data: the data folder.
        run: the run whose detector is the first teacher.
        teacher: the file of `recipes.second_teacher`, for those that the first teacher alone left
            out; None asks the first teacher alone, about all.
    """
    detector = Detector(load_average(run, build_detector("mobile0.25")))
    seen = {} if teacher is None else json.loads(teacher.read_text())
    file = run / "labels.json"
    labels: dict[str, dict[str, list]] = {} if teacher is None else json.loads(file.read_text())
    counts = {"first": 0, "second": 0, "dropped": 0, "alarms": 0}
    for path in portraits(data):
        name = path.relative_to(data).as_posix()
        if name in labels:
            continue
        sure, unsure = look_twice(read_photo(path).pixels, detector)
        others = [face for face in seen.get(name, ()) if face["score"] > SURE]
        if len(sure) == 1:
            points, by = sure[0], "first"
        elif not sure and len(others) == 1:
            points, by = np.array(others[0]["landmarks"]), "second"
        else:
            counts["dropped"] += 1
            continue
        face = landmark_boxes(points[None])[0].tolist()
        apart = [(score, box) for score, box in unsure if overlap(box, face) < 0.1]
        labels[name] = {
            "landmarks": [points.tolist()],
            "ignored": [box for score, box in apart if score > 0.9],  # perhaps a second face
            "alarms": [box for score, box in apart if score <= 0.9],
        }
        counts[by] += 1
        counts["alarms"] += len(labels[name]["alarms"])
    log.info("%d portraits labelled: %s", len(labels), counts)
    with atomic_path(file) as path:
        path.write_text(json.dumps(labels))


def portraits(data: Path) -> list[Path]:
    """The portraits and scans that are labelled, each of one person."""
    folders = (*TRAIN_FOLDERS, "real_lq/portraits_tune")
    return [path for folder in folders for path in sorted((data / folder).iterdir())]


def look_twice(
    image: Tensor, detector: Detector
) -> tuple[list[np.ndarray], list[tuple[float, list[float]]]]:
    """The faces that the first teacher finds in a picture 1×3×H×W, straight and mirrored.

    Returns:
        The 5×2 landmarks of the faces on which both looks agree, their mean; and the score and
        box of each other detection.
    """
    both = torch.cat([image, image.flip(-1)])
    faces, mirrored = detect_faces(
        both, detector, score=0.3, search_sizes=SEARCH_SIZES[:1], try_rotations=False
    ).faces
    twins = [np.array(other.landmarks)[list(MIRROR_ORDER)] for other in mirrored]
    for twin in twins:
        twin[:, 0] = image.shape[-1] - 1 - twin[:, 0]
    sure, unsure = [], []
    for face in faces:
        points = np.array(face.landmarks)
        gaps = [np.linalg.norm(points - twin, axis=1).mean() for twin in twins]
        wide = np.linalg.norm(points[1] - points[0])
        if face.score > 0.8 and gaps and min(gaps) < 0.1 * wide:
            sure.append((points + twins[int(np.argmin(gaps))]) / 2)
        else:
            unsure.append((face.score, list(face.box)))
    return sure, unsure


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes."""
    return float(box_iou(torch.tensor([one]), torch.tensor([other])))
