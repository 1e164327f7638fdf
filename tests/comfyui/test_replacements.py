"""Prompts with nodes of other packs, run with ours."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from harness import PACK
from harness.server import Server
from tests.comfyui import prompts
from tests.comfyui.prompts import node

pytestmark = pytest.mark.comfyui

MODEL = "mine.safetensors"
SEEN = ("photo", "cf", "older", "crop", "reactor", "advanced")


@pytest.fixture(autouse=True)
def model(server: Server) -> None:
    folder = server.base / "models" / "facerestore_models"
    folder.mkdir(exist_ok=True)
    shutil.copy(PACK / "weights" / "restorer.safetensors", folder / MODEL)


def others() -> prompts.Prompt:
    """A prompt as their users save it, with each of the nodes."""
    found = {"facedetection": "retinaface_resnet50"}
    reactor = {**found, "model": MODEL, "visibility": 0.5, "codeformer_weight": 0.3}
    some = {"face_selection": "all", "sort_by": "area", "reverse_order": False}
    some |= {"take_start": 0, "take_count": 1}
    return {
        "photo": prompts.example(),
        "loader": node("FaceRestoreModelLoader", model_name=MODEL),
        "cf": node(
            "FaceRestoreCFWithModel",
            facerestore_model=["loader", 0],
            image=["photo", 0],
            codeformer_fidelity=0.7,
            **found,
        ),
        "older": node(
            "FaceRestoreWithModel", facerestore_model=["loader", 0], image=["photo", 0], **found
        ),
        "crop": node("CropFace", image=["photo", 0], **found),
        "reactor": node("ReActorRestoreFace", image=["photo", 0], **reactor),
        "advanced": node("ReActorRestoreFaceAdvanced", image=["photo", 0], **reactor, **some),
    }


def test_their_nodes_become_ours_and_do_the_same(server: Server):
    prompt = others()
    for name in SEEN:
        prompt[f"{name} seen"] = {**prompts.save(name), "_meta": {"title": name}}
    for item in prompt.values():
        item.setdefault("_meta", {"title": item["class_type"]})
    result = server.run(prompt)
    assert result.succeeded, result.messages
    seen = {name: server.images(result, f"{name} seen")[0].astype(int) for name in SEEN}
    assert seen["crop"].shape == (512, 512, 3)
    full = np.abs(seen["cf"] - seen["photo"]).mean()
    half = np.abs(seen["reactor"] - seen["photo"]).mean()
    assert 0.3 * full < half < 0.7 * full, "visibility is our strength"
    assert (seen["reactor"] == seen["advanced"]).all()
    assert (seen["older"] == seen["cf"]).all(), "only CodeFormer has a fidelity"


def test_every_required_input_gets_a_value(server: Server):
    info = server.get("/object_info")
    ours = [
        each
        for replacements in server.get("/node_replacements").values()
        for each in replacements
        if each["new_node_id"].startswith("BFR_")
    ]
    assert {each["old_node_id"] for each in ours} == {
        item["class_type"] for item in others().values() if not item["class_type"].startswith("BFR")
    }
    for each in ours:
        given = {entry["new_id"] for entry in each["input_mapping"]}
        assert set(info[each["new_node_id"]]["input"]["required"]) <= given, each["old_node_id"]
