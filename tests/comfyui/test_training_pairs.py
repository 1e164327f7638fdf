"""Sets of training pairs in a real ComfyUI, with a prior so small that its targets are noise."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from bfr.pairs.folder import read_pairs
from bfr.prior.load import save_prior
from harness import PACK
from harness.server import Server
from tests.comfyui import prompts
from tests.comfyui.prompts import node
from tests.priors import tiny_prior

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module", autouse=True)
def album(server: Server) -> Path:
    """Two portraits and a broken file in the input folder, and a prior among the models."""
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    about = {"licence": "none", "provenance": "made by a rule"}
    save_prior(folder / "tiny.safetensors", tiny_prior(64), about)
    album = server.base / "input" / "album"
    shutil.rmtree(album, ignore_errors=True)  # other modules have albums of their own
    (album / "more").mkdir(parents=True)
    shutil.copy(PACK / "samples" / "grace_hopper.jpg", album)
    shutil.copy(PACK / "samples" / "eileen_collins.jpg", album / "more")
    (album / "broken.jpg").write_bytes(b"no picture")
    (album / "moving.gif").write_bytes(b"no picture either")
    return album


def draw_thumbnail(folder: Path, path: Path) -> None:
    """The gallery's picture: a pair's degraded face, guess and pseudo target."""
    picture = Image.new("RGB", (1152, 384))
    for place, kind in enumerate(("lq", "guess", "target")):
        file = min((folder / kind).glob("*.png"))
        with Image.open(file) as image:
            resized = image.convert("RGB").resize((384, 384), Image.Resampling.LANCZOS)
        picture.paste(resized, (384 * place, 0))
    picture.save(path, quality=85)


def test_workflow_build_pairs(server: Server):
    prompt = prompts.workflow("face_tune_2_build_pairs")
    if not os.environ.get("BFR_RECORD"):
        prompt = prompts.quick(prompt, "tiny.safetensors")
    prompt["report"] = prompts.show(prompts.only(prompt, "BFR_ReviewTrainingPairs"), 2)
    report = lines(server, prompt)
    assert report[0].startswith("6 pairs (6 to train with")
    if os.environ.get("BFR_RECORD"):
        folder = server.base / "datasets" / "face_example"
        draw_thumbnail(folder, PACK / "workflows" / "face_tune_2_build_pairs.jpg")


def building(name: str, **changes) -> prompts.Prompt:
    return {
        "prior": prompts.load_prior("tiny.safetensors"),
        "build": prompts.build(name, "prior", **{"folder": "album", "crop_size": 64, **changes}),
        "report": prompts.show("build", 1),
    }


def from_crops(name: str, **changes) -> prompts.Prompt:
    """One face, aligned by hand, and the same face again as its guess."""
    prompt = building(name, folder="", crops=["crops", 0], **changes)
    return prompt | {
        "photo": prompts.example("eileen_collins.jpg", damage="none"),
        "landmarks": node("ProbeFaceLandmarks", image=["photo", 0], x=115, y=110, eye_distance=40),
        "crops": node("BFR_AlignFaces", image=["photo", 0], faces=["landmarks", 0], size=128),
    }


def lines(server: Server, prompt: prompts.Prompt) -> list[str]:
    result = server.run(prompt)
    assert result.succeeded, result.messages
    return result.output("report")["text"][0].splitlines()


def manifest(server: Server, name: str) -> list[dict]:
    text = (server.base / "datasets" / name / "manifest.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_becomes_a_set_and_is_continued(server: Server, album: Path):
    first = lines(server, building("family/album"))
    assert first[0].startswith("2 pairs (2 to train with, 0 rejected, 0 unfinished)")
    assert "searched 3, guesses made 2, targets sampled 2" in first[1]
    assert any("failed: " in line and "broken.jpg" in line for line in first)
    assert any("left out" in line and "moving.gif" in line for line in first)
    folder = server.base / "datasets" / "family" / "album"
    assert all(len(list((folder / kind).glob("*.png"))) == 2 for kind in ("lq", "guess", "target"))
    again = lines(server, building("family/album", factor=4))
    assert "guesses made 0, targets sampled 2" in again[1]
    same = lines(server, building("family/album", factor=4, batch_size=2))
    assert "searched 1, guesses made 0, targets sampled 0" in same[1], "only the broken one"


def test_a_new_photograph_is_noticed(server: Server, album: Path):
    prompt = building("watched")
    assert lines(server, prompt)[0].startswith("2 pairs")
    shutil.copy(PACK / "samples" / "grace_hopper.jpg", album / "copy.jpg")
    try:
        report = lines(server, prompt)
    finally:
        (album / "copy.jpg").unlink()
    assert any(line.startswith("the same as") and "copy.jpg" in line for line in report)


def test_crops_and_guesses_from_other_nodes(server: Server):
    report = lines(server, from_crops("crops", guesses=["crops", 0]))
    assert report[0].startswith("1 pair (1 to train with")
    (pair,) = manifest(server, "crops")
    assert pair["sha256"]["lq"] == pair["sha256"]["guess"] != pair["sha256"]["target"]


def test_review_marks_and_shows(server: Server):
    prompt = building("reviewed") | {
        "review": node(
            "BFR_ReviewTrainingPairs",
            pairs=["build", 0],
            rejected="2",
            kept="",
            reject_flagged=False,
            page=1,
        ),
        "report": prompts.show("review", 2),
        "sheet": prompts.save("review", 1),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    (sheet,) = server.images(result, "sheet")
    assert sheet.shape[1] > 6 * 160
    text = result.output("report")["text"][0]
    assert "2 pairs (1 to train with, 1 rejected" in text and "rejected by hand" in text
    folder = server.base / "datasets" / "reviewed"
    assert [pair.status for pair in read_pairs(folder).pairs] == ["kept", "rejected"]
    prompt["review"]["inputs"] |= {"rejected": "", "kept": "2", "page": 2}
    result = server.run(prompt)
    assert "at most 1" in result.error["exception_message"]
    assert [pair.status for pair in read_pairs(folder).pairs] == ["kept", "kept"]


def test_load_lists_the_sets(server: Server):
    assert server.run(building("listed")).succeeded
    info = server.get("/object_info/BFR_LoadTrainingPairs")["BFR_LoadTrainingPairs"]
    assert "listed" in info["input"]["required"]["pairs_name"][1]["options"]
    prompt = {
        "load": node("BFR_LoadTrainingPairs", pairs_name="listed", path=""),
        "report": prompts.show("load", 1),
    }
    assert lines(server, prompt)[0].startswith("2 pairs")
    prompt["load"]["inputs"]["path"] = str(server.base / "datasets" / "listed")
    assert lines(server, prompt)[0].startswith("2 pairs")
    prompt["load"]["inputs"]["path"] = "album"
    result = server.run(prompt)
    assert result.error["node_id"] == "load"
    assert "manifest.jsonl" in result.error["exception_message"]


def test_interrupt_keeps_what_is_done(server: Server):
    prompt = building("stopped", start=150, stop=90, batch_size=1)
    prompt_id = server.queue(prompt)
    folder = server.base / "datasets" / "stopped" / "target"
    end = time.monotonic() + 60
    while not list(folder.glob("*.png")) and time.monotonic() < end:
        time.sleep(0.02)
    server.post("/interrupt", {})
    result = server.wait(prompt_id, seconds=30)
    assert result.messages["execution_interrupted"]["node_id"] == "build"
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    assert len(kept) == 1
    assert "guesses made 0, targets sampled 1" in lines(server, prompt)[1]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


MISTAKES = {
    "neither folder nor crops": ({"folder": ""}, "Fill in folder or connect crops"),
    "no such folder": ({"folder": "no such"}, "no such"),
    "name above": ({"pairs_name": "../elsewhere"}, "got '../elsewhere'"),
    "no name": ({"pairs_name": " "}, "got ' '"),
    "stop": ({"stop": 9}, "stop must be below start"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(server: Server, mistake: str):
    change, message = MISTAKES[mistake]
    prompt = building("wrong", **{"pairs_name": "wrong", **change})
    result = server.run(prompt)
    assert not result.succeeded and result.error["node_id"] == "build"
    assert message in result.error["exception_message"]
    assert not (server.base / "datasets" / "wrong").exists()
