"""Fine-tuning, saving and measuring in a real ComfyUI, with tiny networks."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors import safe_open

from bfr.finetune.save import save_restorer
from bfr.prior.load import save_prior
from harness import PACK
from harness.server import Result, Server
from tests.comfyui import prompts
from tests.comfyui.previews import listening
from tests.comfyui.prompts import node, only
from tests.priors import tiny_prior
from tests.trainable import nafnet

pytestmark = pytest.mark.comfyui

SIZE = 64
RUNS = "face_restoration_runs"


@pytest.fixture(scope="module", autouse=True)
def models(server: Server) -> None:
    """A prior and a restorer of some thousand parameters, and a set of pairs."""
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    about = {"licence": "none", "provenance": "made by a rule"}
    save_prior(folder / "tiny.safetensors", tiny_prior(SIZE), about)
    folder = server.base / "models" / "facerestore_models"
    folder.mkdir(exist_ok=True)
    save_restorer(folder / "tiny.safetensors", replace(nafnet(), size=SIZE))
    build(server, "tuning")


def thumbnail(panels: list[np.ndarray], path: Path) -> None:
    """The gallery's picture: the panels side by side."""
    picture = Image.new("RGB", (384 * len(panels), 384), "#232323")
    for place, panel in enumerate(panels):
        view = ImageOps.contain(Image.fromarray(panel), (384, 384), Image.Resampling.LANCZOS)
        picture.paste(view, (384 * place, (384 - view.height) // 2))
    picture.save(path, quality=85)


def test_workflow_tune_restorer(server: Server):
    prompt = prompts.workflow("face_tune_3_train_restorer")
    tune, save = only(prompt, "BFR_FinetuneRestorer"), only(prompt, "BFR_SaveRestorer")
    if not os.environ.get("BFR_RECORD"):
        prompt = prompts.quick(prompt, "tiny.safetensors")
        # Two steps make nothing better, and what is no better is not saved.
        prompt[tune]["inputs"] |= {"steps": 2, "patch": 32, "validate_every": 1, "keep_worse": True}
    pictures = [only(prompt, "LoadImage")]
    pictures += [prompts.titled(prompt, title) for title in ("As it was", "Fine-tuned")]
    views = [f"view {picture}" for picture in pictures]
    prompt |= {view: prompts.save(each) for view, each in zip(views, pictures, strict=True)}
    prompt["path"] = prompts.show(save)
    result = run(server, prompt)
    report = result.output(prompts.titled(prompt, "Is it better?"))["bfr_report"][0]
    assert f"{prompt[tune]['inputs']['steps']} steps done" in report
    assert Path(result.output("path")["text"][0]).is_file()
    faces = [server.images(result, view)[0] for view in views]
    assert (faces[0] != faces[1]).any() and faces[0].shape == faces[2].shape
    if os.environ.get("BFR_RECORD"):
        centre = slice(40, 360)
        panels = [face[centre, centre, :3] for face in faces]
        thumbnail(panels, PACK / "workflows" / "face_tune_3_train_restorer.jpg")


def test_workflow_compare_restorers(server: Server):
    prompt = prompts.workflow("face_tune_4_compare_restorers")
    results = [prompts.titled(prompt, f"The {name} restores") for name in ("first", "second")]
    views = [f"view {each}" for each in results]
    prompt |= {view: prompts.save(each) for view, each in zip(views, results, strict=True)}
    result = run(server, prompt)
    table = result.output(prompts.titled(prompt, "Table"))["bfr_report"][0]
    names = prompt[only(prompt, "BFR_MeasureFaces")]["inputs"]
    assert names["name"] in table and names["compared_name"] in table and "PSNR" in table
    views.append(prompts.titled(prompt, "Plot"))
    panels = [server.images(result, view)[0] for view in views]
    assert (panels[0] != panels[1]).any()
    if os.environ.get("BFR_RECORD"):
        thumbnail(panels, PACK / "workflows" / "face_tune_4_compare_restorers.jpg")


def damaged(count: int = 1, seed: int = 0, preset: str = "gfpgan") -> prompts.Prompt:
    """An aligned face, clean and damaged in several ways."""
    return {
        "photo": prompts.example("eileen_collins.jpg", damage="none"),
        "landmarks": node("ProbeFaceLandmarks", image=["photo", 0], x=115, y=110, eye_distance=40),
        "aligned": node("BFR_AlignFaces", image=["photo", 0], faces=["landmarks", 0], size=SIZE),
        "clean": node("RepeatImageBatch", image=["aligned", 0], amount=count),
        "damaged": prompts.degrade("clean", preset, seed),
    }


def load_tiny() -> dict:
    return node("BFR_LoadRestorer", restorer_name="tiny.safetensors", download=False)


def build(server: Server, name: str, count: int = 5) -> None:
    """Makes a set of pairs of as many faces."""
    prompt = damaged(count) | {
        "restorer": load_tiny(),
        "prior": prompts.load_prior("tiny.safetensors"),
        "guess": prompts.restore_faces("damaged", "restorer"),
        "build": prompts.build(
            name, "prior", crops=["damaged", 0], guesses=["guess", 0], crop_size=SIZE, score=0.05
        ),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages


def tuning(name: str, pairs: str = "tuning", **changes) -> prompts.Prompt:
    """Fine-tunes the tiny restorer on the set, and restores a face by it."""
    return damaged(seed=9) | {
        "restorer": load_tiny(),
        "pairs": node("BFR_LoadTrainingPairs", pairs_name=pairs, path=""),
        "tune": prompts.finetune(name, "pairs", restorer=["restorer", 0], **changes),
        "report": prompts.show("tune", 1),
        "plot": prompts.save("tune", 2),
        "strip": prompts.save("tune", 3),
        "restore": prompts.restore_faces("damaged", "tune"),
        "face": prompts.save("restore"),
    }


def run(server: Server, prompt: prompts.Prompt) -> Result:
    result = server.run(prompt)
    assert result.succeeded, result.messages
    return result


def log_of(server: Server, name: str) -> list[dict]:
    text = (server.base / "output" / RUNS / name / "log.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_gives_a_restorer_a_report_and_pictures(server: Server):
    prompt = tuning("first")
    with listening(server) as seen:
        result = server.wait(server.queue(prompt, "test"))
    assert result.succeeded, result.messages
    text = result.output("report")["text"][0]
    assert f"{RUNS}" in text and "interrupted" not in text
    assert server.images(result, "plot")[0].ndim == server.images(result, "strip")[0].ndim == 3
    assert (server.base / "output" / RUNS / "first" / "state.pt").is_file()
    shown = [picture for about, picture in seen if about["node_id"] == "tune"]
    assert shown and all(picture.width > picture.height / 2 for picture in shown)
    prompt["restore"]["inputs"]["restorer"] = ["restorer", 0]
    (tuned,), (base,) = server.images(result, "face"), server.images(run(server, prompt), "face")
    assert (tuned != base).any()


def test_learned_damage_is_put_on_faces_and_trained_with(server: Server):
    clean = server.base / "input" / "clean"
    clean.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(noise).save(clean / "face.png")
    prompt = tuning("learned", damage=["learn", 0], clean_folder="clean", steps=2)
    prompt |= {
        "learn": node("BFR_LearnDamage", pairs=["pairs", 0], seed=0),
        "words": prompts.show("learn", 1),
        "picture": prompts.save("learn", 2),
        "degrade": prompts.degrade("clean", learned=["learn", 0]),
        "degraded": prompts.save("degrade"),
    }
    result = run(server, prompt)
    assert "of 255" in result.output("words")["text"][0]
    assert server.images(result, "picture")[0].shape[1] > 3 * SIZE
    assert server.images(result, "degraded")[0].any()
    assert "1 clean face damaged alike" in result.output("report")["text"][0]


def test_the_base_is_not_changed(server: Server):
    prompt = damaged(seed=9) | {"restorer": load_tiny()}
    prompt |= {"restore": prompts.restore_faces("damaged", "restorer")}
    prompt |= {"face": prompts.save("restore")}
    (before,) = server.images(run(server, prompt), "face")
    run(server, tuning("unchanged"))
    prompt["restore"]["inputs"]["strength"] = 0.999  # so that it runs again
    (after,) = server.images(run(server, prompt), "face")
    assert np.abs(before.astype(int) - after.astype(int)).max() <= 1


def test_only_a_change_trains_again(server: Server):
    build(server, "growing", 4)
    prompt = tuning("again", "growing")
    run(server, prompt)
    assert server.run(prompt).cached == set(prompt)
    build(server, "growing", 5)
    result = server.run(prompt)
    assert result.error["node_id"] == "tune", "the run on disk is of other pairs"
    prompt["tune"]["inputs"]["existing_run"] = "start anew"
    assert "tune" not in run(server, prompt).cached


def test_interrupt_keeps_the_run_and_it_goes_on(server: Server):
    steps: dict = {"steps": 60, "save_every": 1000, "validate_every": 1000, "seed": 3}
    prompt = tuning("stopped", **steps) | {"save": prompts.save_restorer("tune", "stopped")}
    prompt["path"] = prompts.show("save")
    prompt_id = server.queue(prompt)
    log = server.base / "output" / RUNS / "stopped" / "log.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (log.exists() and log.read_text("utf-8").count("\n") > 3):
        time.sleep(0.02)
    server.post("/interrupt", {})
    result = server.wait(prompt_id, seconds=60)
    assert result.succeeded, "what is behind goes on with the best so far"
    assert result.output("report")["text"][0].startswith("INTERRUPTED")
    assert result.output("path")["text"][0].startswith("NOT SAVED")
    saved = server.base / "models" / "upscale_models" / "stopped.safetensors"
    assert not saved.exists(), "no base under a tuned name"
    assert 0 < len(log_of(server, "stopped")) < 60
    resumed = run(server, prompt)
    assert "tune" not in resumed.cached
    assert "INTERRUPTED" not in resumed.output("report")["text"][0]
    assert resumed.output("path")["text"][0] == str(saved) and saved.is_file()
    unbroken = run(server, tuning("unbroken", **steps))
    (one,), (other,) = server.images(resumed, "face"), server.images(unbroken, "face")
    assert (one == other).all()


def test_a_saved_restorer_loads_everywhere_and_says_where_it_is_from(server: Server):
    prompt = tuning("saved") | {"save": prompts.save_restorer("tune", "tuned/mine")}
    prompt["path"] = prompts.show("save")
    result = run(server, prompt)
    path = Path(result.output("path")["text"][0])
    folder = server.base / "models" / "upscale_models"
    assert path == folder / "tuned" / "mine.safetensors"
    with safe_open(path, "np") as file:
        about = file.metadata()
    assert about["size"] == str(SIZE) and about["base_sha256"] and json.loads(about["settings"])
    again = damaged(seed=9) | {
        "ours": node("BFR_LoadRestorer", restorer_name="tuned/mine.safetensors", download=False),
        "stock": node("UpscaleModelLoader", model_name="tuned/mine.safetensors"),
        "restore": prompts.restore_faces("damaged", "ours"),
        "upscale": node("ImageUpscaleWithModel", upscale_model=["stock", 0], image=["damaged", 0]),
        "face": prompts.save("restore"),
        "by stock": prompts.save("upscale"),
    }
    loaded = run(server, again)
    (expected,) = server.images(result, "face")
    # The core computes in single precision, and ours in half where the machine is made for it.
    for key, most in (("face", 1), ("by stock", 4)):
        gap = np.abs(server.images(loaded, key)[0].astype(int) - expected.astype(int))
        assert gap.max() <= most and gap.mean() < 0.5, key
    size = path.stat().st_size
    prompt["save"]["inputs"] |= {"half": True}
    second = Path(run(server, prompt).output("path")["text"][0])
    assert second == path and path.stat().st_size < 0.7 * size, "a run replaces its own file"
    other = tuning("saved too", seed=5) | {"save": prompts.save_restorer("tune", "tuned/mine")}
    other["path"] = prompts.show("save")
    third = Path(run(server, other).output("path")["text"][0])
    assert third.name == "mine_2.safetensors", "and no other's"


def test_nothing_stays_in_memory(server: Server):
    server.free()
    run(server, tuning("freed", adversarial=0.1))
    server.free()
    assert server.get("/probe/loaded") == {"managed": [], "cached": []}
    assert "memory leak" not in server.log_text()


# What is done wrong to Fine-tune Restorer, and what is said.
MISTAKES = {
    "name": ({"run_name": "../elsewhere"}, "Names must be such as family_album"),
    "micro-batch": ({"micro_batch": 3}, "3 for 2"),
    "patch": ({"patch": 128}, "patch"),
    "clean faces": ({"clean_folder": "no such"}, "no such"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(server: Server, mistake: str):
    change, message = MISTAKES[mistake]
    prompt = tuning("wrong")
    prompt["tune"]["inputs"] |= change
    result = server.run(prompt)
    assert not result.succeeded and result.error["node_id"] == "tune"
    assert message in result.error["exception_message"]


def test_an_empty_set_is_refused(server: Server):
    folder = server.base / "datasets" / "empty"
    folder.mkdir()
    (folder / "manifest.jsonl").touch()
    result = server.run(tuning("of nothing", "empty"))
    assert result.error["node_id"] == "tune"


def test_damage_follows_its_seed(server: Server):
    prompt = damaged(2) | {"shown": prompts.save("damaged")}
    first = server.images(run(server, prompt), "shown")
    assert (first[0] != first[1]).any(), "each face has a seed of its own"
    prompt["damaged"]["inputs"]["seed"] = 1
    second = server.images(run(server, prompt), "shown")
    assert (second[0] == first[1]).all()


def measuring(**changes) -> prompts.Prompt:
    return damaged(2) | {
        "measure": prompts.measure("damaged", **changes),
        "table": prompts.show("measure"),
        "plot": prompts.save("measure", 1),
    }


def test_figures_of_one_and_of_two(server: Server):
    alone = run(server, measuring()).output("table")["text"][0]
    assert "NIQE" in alone and "PSNR" not in alone
    prompt = measuring(
        compared=["clean", 0],
        name="damaged",
        compared_name="original",
        reference=["clean", 0],
        given=["damaged", 0],
    )
    result = run(server, prompt)
    table = result.output("table")["text"][0]
    assert "damaged" in table and "original" in table and "PSNR" in table and "SSIM" in table
    assert server.images(result, "plot")[0].shape[2] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compared": ["clean", 0], "compared_name": "first"}, "'first'"),
        ({"reference": ["photo", 0]}, "reference"),
        ({"extra": "musiq"}, "pyiqa"),
    ],
)
def test_what_cannot_be_measured_is_told(server: Server, changes: dict, message: str):
    result = server.run(measuring(**changes))
    assert result.error["node_id"] == "measure" and message in result.error["exception_message"]
