"""Clips in a real ComfyUI, from its own video nodes to its own video nodes."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from PIL import Image

from harness import PACK
from harness.server import Server
from tests.comfyui import prompts
from tests.comfyui.previews import listening
from tests.comfyui.prompts import node, only, titled

pytestmark = pytest.mark.comfyui

SETTINGS = {
    "fidelity": 0.5,
    "strength": 1.0,
    "lock": 0.0,
    "smoothing": 3.0,
    "steadiness": 1.5,
    "score": 0.5,
    "min_size": 0,
    "max_gap": 4,
    "crop_size": 0,
    "mask_mode": "auto",
    "feather": 0.1,
    "colour_match": "low frequency",
    "batch_size": 8,
    "chunk": 16,
}


def clip(first: int, count: int) -> prompts.Prompt:
    """Some frames of the sample clip, as node ``frames``."""
    return {
        "video": node("BFR_LoadExampleVideo", video="grace_hopper.mp4"),
        "parts": node("GetVideoComponents", video=["video", 0]),
        "frames": node("ImageFromBatch", image=["parts", 0], batch_index=first, length=count),
    }


def restore(frames: str, **changes):
    return node("BFR_RestoreVideo", **{**SETTINGS, "images": [frames, 0], **changes})


def draw_thumbnail(before: np.ndarray, after: np.ndarray, path) -> None:
    """The gallery's picture: a frame, damaged on the left, then restored."""
    picture = Image.new("RGB", (1024, 512))
    for place, view in enumerate((before, after)):
        resized = Image.fromarray(view).resize((512, 512), Image.Resampling.LANCZOS)
        picture.paste(resized, (512 * place, 0))
    picture.save(path, quality=88)


def test_workflow_restores_the_clip(server: Server):
    prompt = prompts.workflow("face_restore_4_video")
    saved = titled(prompt, "Save Video")
    before, after = only(prompt, "GetVideoComponents"), only(prompt, "BFR_RestoreVideo")
    prompt |= {"before": prompts.save(before), "after": prompts.save(after)}
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (video,) = result.output(saved)["images"]
    path = server.base / "output" / video["subfolder"] / video["filename"]
    assert path.suffix == ".mp4" and path.stat().st_size > 10_000
    before, after = server.images(result, "before"), server.images(result, "after")
    assert len(before) == len(after) == 24
    change = np.abs(np.stack(after).astype(int) - np.stack(before).astype(int)).max(-1)
    assert all(6 < frame[100:200, 120:200].mean() < 60 for frame in change)
    assert change[:, :20, :20].max() <= 1, "the corner is no face"
    if os.environ.get("BFR_RECORD"):
        draw_thumbnail(before[12], after[12], PACK / "workflows" / "face_restore_4_video.jpg")


def test_frames_without_a_face_pass_through(server: Server):
    prompt = clip(0, 2) | {
        "none": node("EmptyImage", width=320, height=320, batch_size=2, color=0x336699),
        "both": node("ImageBatch", image1=["none", 0], image2=["frames", 0]),
        "restore": restore("both"),
        "report": prompts.show("restore", 1),
        "save": prompts.save("restore"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    first, second = result.output("report")["text"][0].splitlines()
    assert first == "1 face followed; 2 of 4 frames restored, the others unchanged"
    assert second.startswith("face 1: frames 3 to 4, ")
    images = server.images(result, "save")
    assert len(images) == 4 and all((image == (0x33, 0x66, 0x99)).all() for image in images[:2])


def test_one_frame_is_a_photograph(server: Server):
    prompt = clip(5, 1) | {
        "video frame": restore("frames"),
        "photo": prompts.restore_photo("frames"),
        "first": prompts.save("video frame"),
        "second": prompts.save("photo"),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (first,), (second,) = server.images(result, "first"), server.images(result, "second")
    assert (first == second).all()


def test_previews_arrive_while_it_restores(server: Server):
    prompt = clip(8, 2) | {"restore": restore("frames"), "save": prompts.save("restore")}
    with listening(server) as seen:
        assert server.wait(server.queue(prompt, "test")).succeeded
    assert {about["node_id"] for about, _ in seen} == {"restore"}
    assert {picture.size for _, picture in seen} == {(256, 256)}


def test_interrupt_stops_within_the_node(server: Server):
    prompt = clip(0, 24) | {
        "many": node("RepeatImageBatch", image=["frames", 0], amount=20),
        "restore": restore("many"),
        "save": prompts.save("restore"),
    }
    prompt_id = server.queue(prompt)
    end = time.monotonic() + 60
    while not server.running() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(5)
    assert server.running(), "the prompt was over before it could be interrupted"
    server.post("/interrupt", {})
    start = time.monotonic()
    result = server.wait(prompt_id, seconds=60)
    assert result.messages["execution_interrupted"]["node_id"] == "restore"
    assert time.monotonic() - start < 10
    after = clip(0, 1) | {"restore": restore("frames"), "save": prompts.save("restore")}
    assert server.run(after).succeeded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_mode": "parsing"}, "needs a parser"),
        ({"feather": 0.5, "crop_size": 8}, "at least 16"),
    ],
)
def test_mistakes_are_named_on_the_node(server: Server, change, message: str):
    prompt = clip(0, 1) | {"restore": restore("frames", **change), "s": prompts.save("restore")}
    result = server.run(prompt)
    assert not result.succeeded and result.error["node_id"] == "restore"
    assert message in result.error["exception_message"]
