"""YOLO face detectors: YOLOv8 weights as ultralytics saves them, and any exported to ONNX.

They find boxes alone, or boxes and landmarks. Landmarks that are missing are put where a face in
such a box has them, and the second look of `detect_faces`, by a RetinaFace, finds them.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import WrongArchitectureError
from ..files.onnx import OnnxModule
from .yolov8 import (
    GREY,
    STRIDE,
    Predictions,
    YoloV8,
    check_finite,
    face_class,
    landmarks_in,
    read_yolov8,
)

_END_TO_END = 6  # columns of a file that has merged its boxes: corners, score and class
_WITH_LANDMARKS = 20  # rows of a file with five landmarks: box, score and (x, y, sureness) each


def read_yolo(path: Path) -> YoloV8 | YoloOnnx:
    """Reads a YOLO face detector.

    Args:
        path: a ``.pt`` file of ultralytics with a YOLOv8, whose code is not run, or an ``.onnx``
            file of any YOLO.

    Returns:
        The network on the CPU; its ``find`` gives scores, boxes and landmarks.

    Raises:
        WeightsError: if the file is missing, damaged, no YOLO, or finds no faces.
        MissingPackageError: for an ONNX file without onnxruntime.
    """
    network = YoloOnnx(path) if path.suffix.lower() == ".onnx" else read_yolov8(path)
    return network.eval().requires_grad_(False)


class YoloOnnx(OnnxModule):
    """A YOLO in an ONNX file.

    Attributes:
        size: (height, width) that the file takes; 0 where it is open.
        face: the number of the class "face".
    """

    def __init__(self, path: Path):
        super().__init__(path)
        given, found = self.inputs, self.outputs[0]
        fits = len(given) == 1 and len(given[0].shape) == 4 and given[0].shape[1] in (0, 3)
        if not fits or given[0].shape[0] > 1 or len(found.shape) not in (0, 3):
            raise WrongArchitectureError(
                f"{path} must take 1×3×H×W and give a table of boxes, as a YOLO does, got "
                f"{', '.join(map(str, given))} and {found}. Choose a YOLO face detector."
            )
        self.size = given[0].shape[2:]
        self.face = face_class(self.metadata.get("names", ""), path)

    @torch.no_grad()
    def find(self, images: Tensor) -> Predictions:
        """Works like `YoloV8.find`; images are resized to the size that the file takes."""
        height, width = images.shape[-2:]
        tall, wide = (own or math.ceil(side / STRIDE) * STRIDE
                      for own, side in zip(self.size, (height, width), strict=True))  # fmt: skip
        scale = min(tall / height, wide / width)
        if (scale < 1) or any(self.size):
            to = [max(1, round(height * scale)), max(1, round(width * scale))]
            images = F.interpolate(
                images.float(), to, mode="bilinear", antialias=scale < 1, align_corners=False
            )
        pad = [0, wide - images.shape[-1], 0, tall - images.shape[-2]]
        filled = F.pad(images.float(), pad, value=GREY)
        tables = [self({self.inputs[0].name: image})[0].cpu() for image in filled.split(1)]
        scores, boxes, landmarks = read_table(torch.cat(tables), self.face, self.path)
        check_finite(scores)
        back = torch.tensor([width / images.shape[-1], height / images.shape[-2]])
        return scores, boxes * back.repeat(2), landmarks * back


def read_table(table: Tensor, face: int, path: Path) -> Predictions:
    """Scores, boxes and landmarks from a YOLO's output, in pixels of its input.

    Args:
        table: B×C×A with rows for centre, size and score of each class, and then, in files for
            faces with landmarks, five times x, y and sureness; or B×A×C; or B×N×6 with corners,
            score and class, where boxes are merged already.
        face: the number of the class "face".
        path: of the file, for messages.

    Raises:
        WrongArchitectureError: for any other shape.
    """
    rows, columns = table.shape[1:]
    if columns == _END_TO_END and rows != _END_TO_END:
        corners, scores, kinds = table.split([4, 1, 1], 2)
        scores = scores[..., 0] * (kinds[..., 0].round() == face)
        return scores, corners, landmarks_in(corners)
    if rows > columns:
        table, rows = table.mT, columns
    if rows < 5 + face:
        raise WrongArchitectureError(
            f"{path} must give a table of at least 5 rows, got {tuple(table.shape)}. Choose a "
            "YOLO face detector."
        )
    centre, size = table[:, :2].mT, table[:, 2:4].mT
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
    if rows == _WITH_LANDMARKS:
        points = table[:, 5:].mT.unflatten(-1, (5, 3))[..., :2]
        return table[:, 4], boxes, points
    return table[:, 4 + face], boxes, landmarks_in(boxes)
