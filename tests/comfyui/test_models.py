"""Neighbours' models in a real ComfyUI: ONNX restorers, YOLO, whole folders, any checkpoint."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import PACK
from harness.server import Server, find_comfyui, find_python
from tests.comfyui import prompts
from tests.comfyui.prompts import node
from tests.onnx_files import restorer_file, table_file

pytestmark = pytest.mark.comfyui


@pytest.fixture
def onnxruntime() -> None:
    comfyui = find_comfyui()
    assert comfyui is not None
    command = [find_python(comfyui), "-c", "import onnxruntime"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("ComfyUI's Python has no onnxruntime")


def choices(server: Server, class_type: str, name: str) -> list[str]:
    """The options of a list, as the editor gets them."""
    slot = server.get(f"/object_info/{class_type}")[class_type]["input"]["required"][name]
    return slot[0] if isinstance(slot[0], list) else slot[1]["options"]


def place(server: Server, *folders: str) -> Path:
    folder = server.base.joinpath("models", *folders)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_an_onnx_restorer_is_listed_and_restores(server: Server, onnxruntime: None):
    restorer_file(place(server, "facerestore_models") / "GPEN-BFR-64.onnx", gain=0.0)
    assert "GPEN-BFR-64.onnx" in choices(server, "BFR_LoadRestorer", "restorer_name")
    prompt = {
        "photo": prompts.example(),
        "restorer": node("BFR_LoadRestorer", restorer_name="GPEN-BFR-64.onnx", download=False),
        "restore": prompts.restore_photo(
            "photo", restorer=["restorer", 0], colour_match="none"
        ),
        "before": prompts.save("photo"),
        "after": prompts.save("restore"),
        # The core's own node takes it, too, as it does every UPSCALE_MODEL.
        "upscale": node(
            "ImageUpscaleWithModel", upscale_model=["restorer", 0], image=["small", 0]
        ),
        "small": node(
            "ImageScale", image=["photo", 0], width=64, height=64, upscale_method="area",
            crop="disabled",
        ),
        "grey": prompts.save("upscale"),
    }  # fmt: skip
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (before,), (after,) = server.images(result, "before"), server.images(result, "after")
    changed = np.abs(before.astype(int) - after).max(-1) > 2
    assert 0.01 < changed.mean() < 0.6
    (grey,) = server.images(result, "grey")
    assert grey.shape == (64, 64, 3) and np.all(np.abs(grey.astype(int) - 128) <= 1)


def test_saving_an_onnx_restorer_is_refused_on_the_node(server: Server, onnxruntime: None):
    restorer_file(place(server, "facerestore_models") / "GPEN-BFR-64.onnx")
    prompt = {
        "restorer": node("BFR_LoadRestorer", restorer_name="GPEN-BFR-64.onnx", download=False),
        "save": prompts.save_restorer("restorer", "no"),
    }
    result = server.run(prompt)
    assert not result.succeeded
    assert result.error["node_type"] == "BFR_SaveRestorer"
    assert "ONNX" in result.error["exception_message"]


def test_a_yolo_among_ultralytics_models_is_listed_and_finds(server: Server, onnxruntime: None):
    table = torch.zeros(1, 5, 40)
    table[0, :, 0] = torch.tensor([320.0, 320.0, 200.0, 260.0, 0.9])
    table_file(place(server, "ultralytics", "bbox") / "face_yolov8n.onnx", table, (640, 640))
    name = "face_yolov8n.onnx"
    assert name in choices(server, "BFR_LoadFaceDetector", "detector_name")
    prompt = {
        "photo": prompts.faceless(640),
        "detector": node("BFR_LoadFaceDetector", detector_name=name, download=False),
        "detect": prompts.detect("photo", "detector"),
        "count": prompts.show("detect", 2),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    assert result.output("count")["text"] == ["0"], "the second look sees no face in plain blue"


def test_a_folder_is_restored_and_what_is_done_is_not_done_again(server: Server):
    folder = server.base / "input" / "scans"
    (folder / "1950s").mkdir(parents=True)
    example = PACK / "samples" / "grace_hopper.jpg"
    with Image.open(example) as photo:
        photo.convert("RGB").resize((320, 320 * photo.height // photo.width)).save(
            folder / "1950s" / "grace.jpg"
        )
    Image.new("RGB", (64, 64), "navy").save(folder / "empty.png")
    (folder / "broken.png").write_bytes(b"no picture")
    inputs = {
        "folder": "scans", "result_name": "restored/scans", "fidelity": 0.5, "strength": 1.0,
        "lock": 0.0, "existing": "skip", "score": 0.5, "min_size": 0, "crop_size": 0,
        "mask_mode": "auto", "feather": 0.1, "colour_match": "low frequency", "batch_size": 8,
    }  # fmt: skip
    prompt = {
        "restore": node("BFR_RestoreFolder", **inputs),
        "report": prompts.show("restore", 0),
        "count": prompts.show("restore", 2),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    out = server.base / "output" / "restored" / "scans"
    assert (out / "1950s" / "grace.jpg").is_file()
    assert (out / "empty.png").read_bytes() == (folder / "empty.png").read_bytes()
    assert not (out / "broken.png").exists()
    text = result.output("report")["text"][0]
    assert text.startswith("1 face restored in 1 of 3 photographs; 1 failed.")
    assert "broken.png: failed" in text
    assert result.output("count")["text"] == ["1"]
    stamp = (out / "1950s" / "grace.jpg").stat().st_mtime_ns
    again = server.run(prompt)
    assert again.succeeded
    assert (out / "1950s" / "grace.jpg").stat().st_mtime_ns == stamp
    inputs["result_name"] = "../elsewhere"
    refused = server.run({"restore": node("BFR_RestoreFolder", **inputs)})
    assert not refused.succeeded
    assert "elsewhere" in refused.error["exception_message"]
