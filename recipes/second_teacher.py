"""The detector's second teacher: what dlib's CNN face detector finds in the portraits.

    python -m recipes.second_teacher look DATA RUN FILE.json

It looks at the portraits that ``RUN/labels.json`` of `recipes.detector` lacks, at twice their
size, and writes boxes, confidences and five landmarks (of its 68) by file name. dlib and the
networks come from the packages ``dlib-bin`` and ``face-recognition-models`` (CC0). A look takes
one or two seconds on a processor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bfr.files.whole import atomic_path

from .detector_labels import portraits
from .faces import five_of_68
from .frame import Commands

log = logging.getLogger(__name__)
_SIDE = 360  # pixels of the shorter side, at most, to which a picture is enlarged


def look(path: Path, detector: Any, predictor: Any) -> list[dict[str, Any]]:
    """The faces of a picture, in its own pixels (pixel centres on whole numbers)."""
    image = Image.open(path).convert("RGB")
    scale = min(2.0, _SIDE / min(image.size))
    size = round(image.width * scale), round(image.height * scale)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    back = np.array(image.size) / size
    faces = []
    for found in detector(pixels, 0):
        box = found.rect
        points = [(point.x, point.y) for point in predictor(pixels, box).parts()]
        corners = np.array([[box.left(), box.top()], [box.right(), box.bottom()]]) * back
        landmarks = (five_of_68(np.array(points, float)) + 0.5) * back - 0.5
        faces.append(
            {
                "score": found.confidence,
                "box": corners.ravel().tolist(),
                "landmarks": landmarks.tolist(),
            }
        )
    return faces


def main(arguments: Sequence[str] | None = None) -> None:
    import face_recognition_models as models  # pyright: ignore

    commands = Commands(__doc__)
    commands.add("look", "data", "run", "file")
    args = commands.parse(arguments)
    dlib: Any = import_module("dlib")  # its stubs lack what is used here
    detector = dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location())
    predictor = dlib.shape_predictor(models.pose_predictor_model_location())
    known = json.loads((args.run / "labels.json").read_text())
    names = {path.relative_to(args.data).as_posix(): path for path in portraits(args.data)}
    found = {
        name: look(path, detector, predictor) for name, path in names.items() if name not in known
    }
    log.info("%d portraits looked at, a face in %d", len(found), sum(map(bool, found.values())))
    with atomic_path(args.file) as path:
        path.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
