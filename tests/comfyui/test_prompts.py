"""Prompts run in a real ComfyUI; ``BFR_RECORD=1`` also draws the gallery's pictures anew."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import PACK
from harness.server import PromptRefused, Server
from tests.comfyui import prompts
from tests.comfyui.prompts import node, only
from tests.onnx_files import arcface_file

pytestmark = pytest.mark.comfyui

WORKFLOWS = ("face_restore_3_step_by_step", "face_restore_1_old_photo_gfpgan")


def draw_thumbnail(before: np.ndarray, after: np.ndarray, mask: np.ndarray, path: Path) -> None:
    """The gallery's picture: the surroundings of the face, damaged on the left, then restored."""
    rows, columns = np.nonzero(mask > 127)
    y, x = int(rows.mean()), int(columns.mean())
    reach = min(int(0.8 * np.ptp(rows)), y, x, before.shape[0] - y, before.shape[1] - x)
    views = [view[y - reach : y + reach, x - reach : x + reach] for view in (before, after)]
    picture = Image.new("RGB", (1024, 512))
    for place, view in enumerate(views):
        resized = Image.fromarray(view).resize((512, 512), Image.Resampling.LANCZOS)
        picture.paste(resized, (512 * place, 0))
    picture.save(path, quality=88)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_changes_the_face_and_nothing_else(server: Server, name: str):
    prompt = prompts.workflow(name)
    photo, saved = only(prompt, "LoadImage"), only(prompt, "SaveImage")
    source = prompt[saved]["inputs"]["images"][0]
    prompt |= {"before": prompts.save(photo)} | prompts.mask(source)
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (before,), (after,), (mask,) = (server.images(result, key) for key in ("before", saved, "mask"))
    assert before.shape == after.shape == mask.shape
    inside = mask[..., 0] > 127
    assert 0.02 < inside.mean() < 0.6
    if os.environ.get("BFR_RECORD"):
        draw_thumbnail(before, after, mask[..., 0], PACK / "workflows" / f"{name}.jpg")
    change = np.abs(after.astype(int) - before.astype(int)).max(-1)
    assert change[inside].mean() > 1
    # Saving rounds down, so where the saved mask is 0 there may be a little grain, which goes with
    # the root of the mask; away from it nothing changes.
    assert change[mask[..., 0] == 0].max() <= 2
    rows, columns = np.nonzero(mask[..., 0])
    change[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
    assert not change[: rows.min() - 12].any() and not change[:, : columns.min() - 12].any()


def test_without_a_face_everything_passes_through(server: Server):
    """The empty batch of crops goes through our nodes and the stock comparison."""
    prompt = prompts.workflow("face_restore_3_step_by_step")
    prompt[only(prompt, "LoadImage")] = prompts.faceless()
    saved = only(prompt, "SaveImage")
    align, restore = only(prompt, "BFR_AlignFaces"), only(prompt, "BFR_RestoreFaces")
    prompt = {key: item for key, item in prompt.items() if item["class_type"] != "PreviewImage"}
    prompt[align]["inputs"]["need_faces"] = False
    stock = node("ImageCompare", image_a=[align, 0], image_b=[restore, 0], compare_view={})
    prompt["stock"] = stock
    prompt["ours"] = node("BFR_CompareImages", before=[align, 0], after=[restore, 0])
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (after,) = server.images(result, saved)
    assert (after == (0x33, 0x66, 0x99)).all()


def test_workflow_says_that_there_is_no_face(server: Server):
    """On the node whose business it is, and not as an IndexError of a preview after it."""
    prompt = prompts.workflow("face_restore_3_step_by_step")
    prompt[only(prompt, "LoadImage")] = prompts.faceless()
    result = server.run(prompt)
    assert result.error["node_id"] == only(prompt, "BFR_AlignFaces")
    assert "256×256" in result.error["exception_message"]


def test_report_names_the_image_without_a_face(server: Server):
    prompt = {
        "photo": prompts.example(),
        "none": prompts.faceless(400),
        "both": node("ImageBatch", image1=["photo", 0], image2=["none", 0]),
        "restore": prompts.restore_photo("both"),
        "report": prompts.show("restore", 3),
        "count": prompts.show("restore", 2),
        "save": prompts.save("restore"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    first, second, third = result.output("report")["text"][0].splitlines()
    assert first == "1 face restored in 2 images"
    assert second.startswith("image 1: 1 face") and "no face found" in third
    assert result.output("count")["text"][0] == "1"
    assert len(server.images(result, "save")) == 2


def test_faces_of_the_cores_own_detector(server: Server):
    """FACE_LANDMARKS take the place of BFR_FACES."""
    prompt = {
        "photo": prompts.example("eileen_collins.jpg"),
        "landmarks": node("ProbeFaceLandmarks", image=["photo", 0], x=115, y=110, eye_distance=40),
        "align": node("BFR_AlignFaces", image=["photo", 0], faces=["landmarks", 0], size=256),
        "restorer": node("BFR_LoadRestorer", restorer_name="embedded default", download=False),
        "restore": prompts.restore_faces("align", "restorer"),
        "paste": prompts.paste("photo", "restore", "align"),
        "save": prompts.save("paste"),
        "crops": prompts.save("align"),
        **prompts.mask("paste"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (crop,), (mask,) = server.images(result, "crops"), server.images(result, "mask")
    assert crop.shape == (256, 256, 3)
    rows, columns = np.nonzero(mask[..., 0] > 127)
    assert abs(columns.mean() - 115) < 4 and abs(rows.mean() - 120) < 15


def test_paste_onto_an_enlarged_photograph(server: Server):
    prompt = prompts.workflow("face_restore_3_step_by_step")
    photo, paste = only(prompt, "LoadImage"), only(prompt, "BFR_PasteFaces")
    prompt["large"] = node("ImageScaleBy", image=[photo, 0], upscale_method="lanczos", scale_by=2.0)
    prompt[paste]["inputs"]["image"] = ["large", 0]
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (after,) = server.images(result, only(prompt, "SaveImage"))
    assert after.shape == (800, 800, 3)


def test_restorers_and_stock_upscale_nodes_go_together(server: Server):
    """Both loaders give the same network, and the stock upscaler takes ours."""
    folder = server.base / "models" / "upscale_models"
    folder.mkdir(exist_ok=True)
    shutil.copy(PACK / "weights" / "restorer.safetensors", folder / "stock.safetensors")
    prompt = {
        "photo": prompts.example(),
        "stock": node("UpscaleModelLoader", model_name="stock.safetensors"),
        "ours": node("BFR_LoadRestorer", restorer_name="embedded default", download=False),
        "with stock": prompts.restore_photo("photo", restorer=["stock", 0]),
        "with ours": prompts.restore_photo("photo", restorer=["ours", 0]),
        "upscale": node("ImageUpscaleWithModel", upscale_model=["ours", 0], image=["photo", 0]),
        "first": prompts.save("with stock"),
        "second": prompts.save("with ours"),
        "third": prompts.save("upscale"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (first,), (second,), (third,) = (server.images(result, k) for k in ("first", "second", "third"))
    assert (first == second).all() and third.shape == first.shape


def test_the_background_is_cleaned_by_ours_or_by_what_the_core_loads(server: Server):
    """Our file is one that Load Upscale Model takes; a face restorer is refused with a remedy."""
    folder = server.base / "models" / "upscale_models"
    folder.mkdir(exist_ok=True)
    shutil.copy(PACK / "weights" / "background.safetensors", folder / "cleaner.safetensors")
    prompt = {
        "photo": prompts.example(damage="noise"),
        "stock": node("UpscaleModelLoader", model_name="cleaner.safetensors"),
        "plain": prompts.restore_photo("photo"),
        "ours": prompts.restore_photo("photo", background=1.0),
        "theirs": prompts.restore_photo("photo", background=1.0, cleaner=["stock", 0]),
        "first": prompts.save("plain"),
        "second": prompts.save("ours"),
        "third": prompts.save("theirs"),
        "report": prompts.show("ours", 3),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    plain, ours, theirs = (
        server.images(result, key)[0].astype(int) for key in ("first", "second", "third")
    )
    assert (abs(ours - plain) > 3).any() and abs(ours - theirs).mean() < 1
    assert "background cleaned by 100 %" in str(result.output("report"))
    prompt["faces"] = node("BFR_LoadRestorer", restorer_name="embedded default", download=False)
    prompt["theirs"] = prompts.restore_photo("photo", background=0.5, cleaner=["faces", 0])
    result = server.run(prompt)
    assert not result.succeeded
    assert "face restorer" in result.error["exception_message"]


def test_transparency_is_kept(server: Server):
    prompt = {
        "photo": prompts.example(),
        "half": node("SolidMask", value=0.5, width=400, height=400),
        "clear": node("JoinImageWithAlpha", image=["photo", 0], alpha=["half", 0]),
        "restore": prompts.restore_photo("clear"),
        "before": prompts.save("clear"),
        "after": prompts.save("restore"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (before,), (after,) = server.images(result, "before"), server.images(result, "after")
    assert after.shape == (400, 400, 4) and (after[..., 3] == before[..., 3]).all()
    assert (after[..., :3] != before[..., :3]).any()


def test_bounding_boxes_suit_the_cores_nodes(server: Server):
    prompt = {
        "photo": prompts.example(),
        "detector": node("BFR_LoadFaceDetector", detector_name="embedded default", download=False),
        "detect": prompts.detect("photo", "detector"),
        "draw": node("DrawBBoxes", image=["photo", 0], bboxes=["detect", 3]),
        "drawn": prompts.save("draw"),
        "plain": prompts.save("photo"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (drawn,), (plain,) = server.images(result, "drawn"), server.images(result, "plain")
    assert (drawn != plain).any()


def test_select_by_a_photograph_of_the_person(server: Server):
    prompt = {
        "photo": prompts.example(damage="none"),
        "other": prompts.example("eileen_collins.jpg", damage="none"),
        "nobody": prompts.faceless(),
        "detect": node("BFR_DetectFaces", image=["photo", 0], score=0.5, min_size=0),
        "select": node(
            "BFR_SelectFaces",
            faces=["detect", 0], sort="size", indices="", limit=0, min_size=0, max_size=0,
            min_score=0.0, image=["photo", 0],
        ),
        "count": prompts.show("select", 1),
    }  # fmt: skip
    for person, count in (("photo", "1"), ("other", "0")):
        prompt["select"]["inputs"]["person"] = [person, 0]
        assert server.run(prompt).output("count")["text"][0] == count
    prompt["select"]["inputs"]["person"] = ["nobody", 0]
    result = server.run(prompt)
    assert "must show a face, got none" in result.error["exception_message"]
    del prompt["select"]["inputs"]["image"]
    assert "Connect the image" in server.run(prompt).error["exception_message"]


def test_one_person_is_restored(server: Server):
    prompt = {
        "photo": prompts.example(damage="none"),
        "other": prompts.example("eileen_collins.jpg", damage="none"),
        "own": prompts.restore_photo("photo", person=["photo", 0]),
        "strangers": prompts.restore_photo("photo", person=["other", 0]),
        "own report": prompts.show("own", 3),
        "strangers report": prompts.show("strangers", 3),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    told = result.output("own report")["text"][0]
    assert told.startswith("1 face of the person (distance 0.")
    assert result.output("strangers report")["text"][0].startswith("no face of the person found")


def test_a_recognizer_is_chosen_in_the_nodes(server: Server):
    """A network that finds everybody alike."""
    folder = server.base / "models" / "insightface"
    (folder / "models" / "any").mkdir(parents=True, exist_ok=True)
    name = "models/any/alike.onnx"
    arcface_file(folder / name)
    arcface_file(folder / "models" / "any" / "det_10g.onnx", size=640)
    info = server.get("/object_info/BFR_LoadFaceRecognizer")["BFR_LoadFaceRecognizer"]
    options = info["input"]["required"]["recognizer_name"][1]["options"]
    assert name in options and "embedded default" in options
    assert not [option for option in options if "det_10g" in option], "it finds faces"
    prompt = {
        "photo": prompts.example(damage="none"),
        "other": prompts.example("eileen_collins.jpg", damage="none"),
        "detect": node("BFR_DetectFaces", image=["photo", 0], score=0.5, min_size=0),
        "alike": node("BFR_LoadFaceRecognizer", recognizer_name=name, download=False),
        "select": node(
            "BFR_SelectFaces",
            faces=["detect", 0], sort="size", indices="", limit=0, min_size=0, max_size=0,
            min_score=0.0, image=["photo", 0], person=["other", 0], recognizer=["alike", 0],
        ),
        "count": prompts.show("select", 1),
        "restore": prompts.restore_photo("photo", recognizer=["alike", 0], keep_person=0.5),
        "report": prompts.show("restore", 3),
    }  # fmt: skip
    result = server.run(prompt)
    assert result.succeeded, result.messages
    assert result.output("count")["text"][0] == "1"
    assert "identity 0.0" in result.output("report")["text"][0]


def test_a_missed_face_is_painted_over(server: Server):
    prompt = {
        "photo": prompts.example(damage="none"),
        "paint": node("SolidMask", value=1.0, width=180, height=180),
        "blank": node("SolidMask", value=0.0, width=400, height=400),
        "mask": node(
            "MaskComposite",
            destination=["blank", 0], source=["paint", 0], x=110, y=70, operation="add",
        ),
        "detect": node(
            "BFR_DetectFaces", image=["photo", 0], score=1.0, min_size=0, painted=["mask", 0]
        ),
        "report": prompts.show("detect", 4),
    }  # fmt: skip
    result = server.run(prompt)
    assert result.succeeded, result.messages
    assert result.output("report")["text"][0].startswith("1 face\nbox 1: face 1")


def test_select_by_number_mask_and_limit(server: Server):
    prompt = prompts.workflow("face_restore_3_step_by_step")
    select = only(prompt, "BFR_SelectFaces")
    prompt["count"] = prompts.show(select, 1)
    assert server.run(prompt).output("count")["text"][0] == "1"
    prompt["unpainted"] = node("SolidMask", value=0.0, width=400, height=400)
    prompt[select]["inputs"]["mask"] = ["unpainted", 0]
    assert server.run(prompt).output("count")["text"][0] == "1", "an unpainted mask is none"
    del prompt[select]["inputs"]["mask"]
    for numbers in ("2", "0"):
        prompt[select]["inputs"]["indices"] = numbers
        result = server.run(prompt)
        assert result.error["node_id"] == select and numbers in result.error["exception_message"]
    prompt[select]["inputs"]["indices"] = "1"
    assert server.run(prompt).output("count")["text"][0] == "1"


# What is done wrong to the workflow, the node that must complain, and what it says.
MISTAKES = {
    "numbers": ("BFR_SelectFaces", {"indices": "first"}, "whole numbers"),
    "published file that is not here": (
        "BFR_LoadRestorer",
        {"restorer_name": "GFPGANv1.4.pth"},
        "nothing downloads by itself",
    ),
    "parsing without a parser": ("BFR_PasteFaces", {"mask_mode": "parsing"}, "parser"),
    "low-pass factor": ("BFR_RestoreFaces", {"lock": 0.5, "lock_factor": 7}, "7"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_on_the_right_node(server: Server, mistake: str):
    class_type, change, message = MISTAKES[mistake]
    prompt = prompts.workflow("face_restore_3_step_by_step")
    wrong = only(prompt, class_type)
    prompt[wrong]["inputs"].update(change)
    result = server.run(prompt)
    assert not result.succeeded
    assert result.error["node_id"] == wrong
    assert message in result.error["exception_message"]


@pytest.mark.parametrize(
    ("class_type", "change"),
    [
        ("BFR_LoadRestorer", {"restorer_name": "no such file.pth"}),
        ("BFR_PasteFaces", {"mask_mode": "hexagon"}),
        ("BFR_DetectFaces", {"score": 2.0}),
        ("BFR_AlignFaces", {"size": 8}),
    ],
)
def test_values_out_of_range_are_refused_before_running(server: Server, class_type, change):
    prompt = prompts.workflow("face_restore_3_step_by_step")
    wrong = only(prompt, class_type)
    prompt[wrong]["inputs"].update(change)
    with pytest.raises(PromptRefused) as refused:
        server.queue(prompt)
    assert set(refused.value.errors) == {wrong}


def test_only_what_changed_runs_again(server: Server):
    prompt = prompts.workflow("face_restore_3_step_by_step")
    assert server.run(prompt).succeeded
    assert server.run(prompt).cached == set(prompt)
    paste = only(prompt, "BFR_PasteFaces")
    prompt[paste]["inputs"]["feather"] = 0.2
    saved = only(prompt, "SaveImage")
    assert server.run(prompt).cached == set(prompt) - {
        paste,
        saved,
        only(prompt, "BFR_CompareImages"),
    }


def test_a_replaced_weights_file_is_read_again(server: Server):
    """Its name is the same, so only its fingerprint tells."""
    folder = server.base / "models" / "facerestore_models"
    folder.mkdir(exist_ok=True)
    embedded = (PACK / "weights" / "restorer.safetensors").read_bytes()
    (folder / "mine.safetensors").write_bytes(embedded)
    prompt = prompts.workflow("face_restore_3_step_by_step")
    loader = only(prompt, "BFR_LoadRestorer")
    prompt[loader]["inputs"]["restorer_name"] = "mine.safetensors"
    assert server.run(prompt).succeeded
    assert loader in server.run(prompt).cached
    time.sleep(0.01)
    (folder / "mine.safetensors").write_bytes(embedded)
    assert loader not in server.run(prompt).cached
    (folder / "mine.safetensors").write_bytes(embedded[: len(embedded) // 2])
    result = server.run(prompt)
    assert result.error["node_id"] == loader and "mine.safetensors" in str(result.error)


def test_freeing_memory_frees_ours(server: Server):
    prompt = prompts.workflow("face_restore_3_step_by_step")
    name = "embedded default"
    prompt["detector"] = node("BFR_LoadFaceDetector", detector_name=name, download=False)
    prompt[only(prompt, "BFR_DetectFaces")]["inputs"]["detector"] = ["detector", 0]
    assert server.run(prompt).succeeded
    before = server.get("/probe/loaded")
    assert {"RetinaFace", "NAFNet"} <= set(before["managed"]) & set(before["cached"])
    server.free()
    assert server.get("/probe/loaded") == {"managed": [], "cached": []}


def test_embedded_networks_do_not_stay_behind(server: Server):
    """Restore Photo loads its own when none is connected, and keeps none of them."""
    server.free()
    prompt = prompts.workflow("face_restore_1_old_photo_gfpgan")
    del prompt[only(prompt, "BFR_LoadRestorer")]
    del prompt[only(prompt, "BFR_RestorePhoto")]["inputs"]["restorer"]
    assert server.run(prompt).succeeded
    assert server.get("/probe/loaded")["cached"] == []
    assert "memory leak" not in server.log_text()


def test_interrupt_stops_within_a_node(server: Server):
    prompt = {
        "photo": prompts.example(seed=int(time.time())),
        "many": node("RepeatImageBatch", image=["photo", 0], amount=400),
        "restore": prompts.restore_photo("many"),
        "save": prompts.save("restore"),
    }
    prompt_id = server.queue(prompt)
    end = time.monotonic() + 30
    while not server.running() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(3)
    assert server.running(), "the prompt was over before it could be interrupted"
    server.post("/interrupt", {})
    start = time.monotonic()
    result = server.wait(prompt_id, seconds=30)
    assert "execution_interrupted" in result.messages
    assert result.messages["execution_interrupted"]["node_id"] == "restore"
    assert time.monotonic() - start < 10
    assert server.run(prompts.workflow("face_restore_1_old_photo_gfpgan")).succeeded
