"""YOLO detectors: against ultralytics' figures, and from files whose code is never run."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from benchmarks.published import GOLDEN
from benchmarks.published.rule_weights import rule_state
from bfr.errors import CorruptWeightsError, MissingWeightsError, UnsafeWeightsError, WeightsError
from bfr.faces.detect import detect_faces
from bfr.faces.retinaface import load_detector
from bfr.faces.yolo import read_table, read_yolo
from bfr.faces.yolov8 import YoloV8, landmarks_in, merged
from tests.onnx_files import table_file
from tests.portraits import astronaut

BOX = (180.0, 60.0, 270.0, 175.0)  # of the astronaut's face in the picture of 512×320


def published() -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights by rule, images and ultralytics' output for them."""
    with safe_open(GOLDEN / "yolov8.safetensors", "pt") as file:
        shapes = json.loads(file.metadata()["state_dict_shapes"])
        images, output = file.get_tensor("images"), file.get_tensor("output")
    state = rule_state(shapes)
    variances = {name: 1 + t.abs() for name, t in state.items() if name.endswith("running_var")}
    return {**state, **variances}, images, output


@pytest.fixture
def ultralytics() -> Iterator[types.ModuleType]:
    """A module of that name, gone again when a test reads what was pickled with it."""
    module = types.ModuleType("ultralytics")

    class DetectionModel(nn.Module):
        pass

    DetectionModel.__module__, DetectionModel.__qualname__ = "ultralytics", "DetectionModel"
    module.DetectionModel = DetectionModel  # type: ignore[attr-defined]
    sys.modules["ultralytics"] = module
    yield module
    sys.modules.pop("ultralytics", None)


def save_pickled(
    path: Path, state: dict[str, Tensor], module: Any, names: Any = None, **others: Any
) -> Path:
    """A checkpoint as ultralytics writes it: the pickled network, in half precision."""
    model = module.DetectionModel()
    for name, tensor in state.items():
        *folders, last = name.split(".")
        place: nn.Module = model
        for folder in folders:
            if folder not in place._modules:
                place.add_module(folder, nn.Module())
            place = place._modules[folder]  # type: ignore[assignment]
        place.register_buffer(last, tensor.half())
    model.names = names
    torch.save({"epoch": -1, "model": model, "ema": None, **others}, path)
    del sys.modules["ultralytics"]
    return path


@pytest.mark.parity
def test_ultralytics_own_figures_pass():
    state, images, output = published()
    for face in (0, 1):
        scores, boxes, landmarks = YoloV8(merged(state), face).find(images)
        expected, corners, points = read_table(output, face, Path("figures"))
        assert torch.allclose(scores, expected, atol=1e-5)
        assert torch.allclose(boxes, corners, atol=1e-3)
        assert torch.allclose(landmarks, points, atol=1e-3)


def test_a_pickled_network_is_read_without_its_code(tmp_path: Path, ultralytics):
    state, images, output = published()
    path = save_pickled(tmp_path / "face_yolov8n.pt", state, ultralytics, {0: "face", 1: "x"})
    detector = load_detector(path)
    assert "ultralytics" not in sys.modules
    scores, boxes, _ = detector(images)
    assert torch.allclose(scores, output[:, 4], atol=2e-3)
    assert boxes.shape == (1, output.shape[2], 4)
    assert detector.name == "face_yolov8n"


def test_the_class_face_is_taken_by_its_name(tmp_path: Path, ultralytics):
    state, images, output = published()
    path = save_pickled(tmp_path / "a.pt", state, ultralytics, {0: "person", 1: "Human face"})
    assert torch.allclose(load_detector(path)(images)[0], output[:, 5], atol=2e-3)


def test_a_detector_of_hands_is_refused(tmp_path: Path, ultralytics):
    path = save_pickled(tmp_path / "hand.pt", published()[0], ultralytics, {0: "hand", 1: "foot"})
    with pytest.raises(WeightsError, match=r"hand\.pt.*hand, foot"):
        load_detector(path)
    table = torch.zeros(1, 5, 9)
    file = table_file(tmp_path / "hand.onnx", table, metadata={"names": "{0: 'hand'}"})
    with pytest.raises(WeightsError, match=r"hand\.onnx.*hand"):
        load_detector(file)


def test_code_in_a_pickle_never_runs(tmp_path: Path, ultralytics):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"touch {ran}",)

    path = save_pickled(tmp_path / "evil.pt", published()[0], ultralytics, evil=Evil())
    with pytest.raises(UnsafeWeightsError, match="evil"):
        load_detector(path)
    assert not ran.exists()


@pytest.mark.parametrize("lost", ["model.9.cv1.conv.weight", "model.22.cv2.0.2.weight"])
def test_another_network_is_refused(lost: str, tmp_path: Path, ultralytics):
    state = published()[0]
    del state[lost]
    with pytest.raises(WeightsError, match=r"a\.pt.*format=onnx"):
        load_detector(save_pickled(tmp_path / "a.pt", state, ultralytics))


def test_damaged_and_missing_files_are_named(tmp_path: Path, ultralytics):
    with pytest.raises(MissingWeightsError, match=r"a\.pt"):
        read_yolo(tmp_path / "a.pt")
    path = save_pickled(tmp_path / "a.pt", published()[0], ultralytics)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CorruptWeightsError, match=r"a\.pt"):
        read_yolo(path)


def rows(boxes: list[tuple[float, ...]], score: float = 0.9) -> Tensor:
    """A 1×5×A table of these boxes, filled up with nothing."""
    table = torch.zeros(1, 5, 40)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        table[0, :, number] = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score])
    return table


@pytest.mark.parametrize("layout", ["rows", "columns", "merged"])
def test_all_layouts_of_a_table_are_read(layout: str):
    table = rows([(10, 20, 30, 60)])
    if layout == "columns":
        table = table.mT
    elif layout == "merged":
        table = torch.zeros(1, 300, 6)
        table[0, 0] = torch.tensor([10, 20, 30, 60, 0.9, 0])
    scores, boxes, landmarks = read_table(table, 0, Path("a"))
    assert scores[0, 0] == pytest.approx(0.9)
    assert boxes[0, 0].tolist() == [10, 20, 30, 60]
    assert landmarks.shape == (*boxes.shape[:2], 5, 2)


def test_landmarks_of_a_file_that_has_them_are_taken():
    table = torch.zeros(1, 20, 50)
    points = torch.rand(5, 2) * 50
    table[0, 4, 7] = 0.8
    table[0, 5:, 7] = torch.cat([points, torch.ones(5, 1)], 1).flatten()
    scores, _, landmarks = read_table(table, 0, Path("a"))
    assert scores[0, 7] == pytest.approx(0.8)
    assert torch.allclose(landmarks[0, 7], points)


def test_a_table_of_another_kind_is_refused():
    with pytest.raises(WeightsError, match="classes"):
        read_table(torch.zeros(1, 4, 100), 0, Path("classes"))


@pytest.mark.parametrize("size", [("height", "width"), (640, 640), (320, 512)])
def test_a_box_becomes_a_face_with_its_real_landmarks(size: tuple, tmp_path: Path):
    image, face = astronaut()
    scale = min(size[0] / 320, size[1] / 512) if isinstance(size[0], int) else 1
    box = tuple(side * scale for side in BOX)
    # Whatever is seen, so the first look must be at the picture's own size.
    detector = load_detector(table_file(tmp_path / "face.onnx", rows([box]), size))
    found = detect_faces(image, detector, search_sizes=(512,), try_rotations=False)
    (only,) = found.faces[0]
    eyes = torch.tensor(face.landmarks[1]) - torch.tensor(face.landmarks[0])
    apart = (torch.tensor(only.landmarks) - torch.tensor(face.landmarks)).norm(dim=1)
    assert float(apart.mean() / eyes.norm()) < 0.12
    assert torch.tensor(only.box).sub(torch.tensor(BOX)).abs().max() < 1


def test_a_box_around_no_face_is_dropped_by_the_second_look(tmp_path: Path):
    image, _ = astronaut()
    detector = load_detector(table_file(tmp_path / "face.onnx", rows([(380, 20, 470, 120)])))
    found = detect_faces(image, detector, search_sizes=(512,), try_rotations=False)
    assert found.count == 0


def test_nan_is_an_error_and_no_face(tmp_path: Path):
    image, _ = astronaut()
    detector = load_detector(table_file(tmp_path / "face.onnx", rows([BOX], float("nan"))))
    with pytest.raises(WeightsError, match="NaN"):
        detect_faces(image, detector)


def test_landmarks_in_a_box_are_in_the_order_of_ours():
    left, right, nose, _, _ = landmarks_in(torch.tensor([0.0, 0.0, 100.0, 100.0])).tolist()
    assert left[0] < nose[0] < right[0]
    assert left[1] < nose[1]
