"""How the pack behaves in a real ComfyUI: memory, settings that count, what is not done twice.

Errors on the right node are tested where the nodes are; here is what all of them share.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bfr.prior.load import save_prior
from bfr.prior.prior import Prior
from bfr.prior.schedule import Schedule
from bfr.prior.unet import UNet, UNetConfig
from harness import PACK
from harness.server import Result, Server
from samples.templates.layouts import own_checkpoint
from tests.comfyui import prompts
from tests.comfyui.prompts import node, only
from tests.priors import tiny_prior

websocket = pytest.importorskip("websocket")

pytestmark = pytest.mark.comfyui

ABOUT = {"licence": "none", "provenance": "made by a rule"}
WORKFLOWS = [
    path.stem
    for path in sorted((PACK / "workflows" / "api").glob("*.json"))
    if not own_checkpoint(path.stem)
]
MEGABYTE = 2**20
_SHORT = 4096 * MEGABYTE  # with less than a tenth of memory left, ComfyUI empties its cache


@pytest.fixture(scope="module", autouse=True)
def priors(server: Server) -> None:
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    save_prior(folder / "tiny.safetensors", tiny_prior(64), ABOUT)


def run(server: Server, prompt: prompts.Prompt) -> Result:
    result = server.run(prompt)
    assert result.succeeded, result.messages
    return result


def resident(server: Server) -> int:
    """Bytes of memory that ComfyUI holds."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc: the memory of another process is read there")
    (line,) = (x for x in status.read_text("utf-8").splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_free_memory_gives_the_memory_back(server: Server):
    """A prior of a quarter gigabyte comes and goes."""
    if psutil.virtual_memory().available < _SHORT:
        pytest.skip("memory is short: ComfyUI drops what it has cached by itself")
    sides = {"channels": (768, 768), "blocks": (0, 1), "attention": (False, False)}
    network = UNet(UNetConfig(model_channels=512, patch=4, **sides))
    size = sum(parameter.nbytes for parameter in network.parameters())
    assert size > 200 * MEGABYTE
    prior = Prior(
        network, 64, Schedule(), prediction="sample", variance="fixed_small", name="large"
    )
    file = server.base / "models" / "face_priors" / "large.safetensors"
    save_prior(file, prior, ABOUT)
    prompt = {
        "photo": prompts.example("eileen_collins.jpg"),
        "crop": node("ImageCrop", image=["photo", 0], width=64, height=64, x=80, y=80),
        "prior": prompts.load_prior("large.safetensors"),
        "sample": prompts.sample("crop", "prior", start=2, stop=1),
        "save": prompts.save("sample"),
    }
    try:
        server.free()
        before = resident(server)
        run(server, prompt)
        assert server.get("/probe/loaded")["managed"] == ["UNet"]
        with_prior = resident(server)
        server.free()
        assert server.get("/probe/loaded") == {"managed": [], "cached": []}
        after = resident(server)
    finally:
        file.unlink()
    assert with_prior - before > 0.9 * size
    assert with_prior - after > 0.9 * size


# Each setting of the chain that shows in the picture, and a value that is not the workflow's.
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("LoadImage", {"image": "face_example_noisy_photo.png"}),
    ("BFR_DetectFaces", {"score": 1.0}),
    ("BFR_DetectFaces", {"min_size": 2000}),
    ("BFR_SelectFaces", {"min_size": 2000}),
    ("BFR_SelectFaces", {"max_size": 8}),
    ("BFR_SelectFaces", {"min_score": 1.0}),
    ("BFR_AlignFaces", {"size": 128}),
    ("BFR_RestoreFaces", {"strength": 0.5}),
    ("BFR_RestoreFaces", {"lock": 1.0}),
    ("BFR_RestoreFaces", {"lock": 1.0, "lock_factor": 8}),
    ("BFR_PasteFaces", {"mask_mode": "square"}),
    ("BFR_PasteFaces", {"feather": 0.3}),
    ("BFR_PasteFaces", {"colour_match": "none"}),
    ("BFR_PasteFaces", {"strength": 0.5}),
]


def test_every_setting_takes_effect_and_can_be_taken_back(server: Server):
    prompt = prompts.workflow("face_restore_3_step_by_step")
    saved = only(prompt, "SaveImage")
    # Where a setting leaves no face, the chain goes on without; the core's preview could not.
    prompt[only(prompt, "BFR_AlignFaces")]["inputs"]["need_faces"] = False
    prompt = {k: item for k, item in prompt.items() if item["class_type"] != "PreviewImage"}
    (first,) = server.images(run(server, prompt), saved)
    seen = [first]
    for class_type, change in CHANGES:
        inputs = prompt[only(prompt, class_type)]["inputs"]
        usual = {name: inputs[name] for name in change}
        assert all(inputs[name] != value for name, value in change.items()), class_type
        inputs.update(change)
        (changed,) = server.images(run(server, prompt), saved)
        assert changed.shape == first.shape and (changed != first).any(), f"{class_type} {change}"
        seen.append(changed)
        inputs.update(usual)
    locked = [index for index, (_, change) in enumerate(CHANGES, 1) if "lock" in change]
    assert (seen[locked[0]] != seen[locked[1]]).any(), "the lock's factor counts, too"
    server.free()  # else it would come from the cache
    (again,) = server.images(run(server, prompt), saved)
    assert (again == first).all()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_done_twice(server: Server, name: str):
    """The same workflow again is all taken from the cache, files and folders included."""
    for done in ("datasets", "output/face_restoration_runs"):
        shutil.rmtree(server.base / done, ignore_errors=True)
    prompt = prompts.quick(prompts.workflow(name), "tiny.safetensors")
    for item in prompt.values():
        if item["class_type"] == "BFR_FinetuneRestorer":
            item["inputs"] |= {"steps": 2, "patch": 32, "validate_every": 2}
    run(server, prompt)
    again = run(server, prompt)
    assert not [prompt[key]["class_type"] for key in set(prompt) - again.cached]


def cropped(count: int, side: int = 192) -> prompts.Prompt:
    """A face, many times: work that takes a while."""
    return {
        "photo": prompts.example(damage="low resolution"),
        "crop": node("ImageCrop", image=["photo", 0], width=side, height=side, x=70, y=60),
        "crops": node("RepeatImageBatch", image=["crop", 0], amount=count),
    }


def restoring() -> prompts.Prompt:
    loader = node("BFR_LoadRestorer", restorer_name="embedded default", download=False)
    work = prompts.restore_faces("crops", "restorer", batch_size=1)
    return cropped(200) | {"restorer": loader, "work": work}


def sampling() -> prompts.Prompt:
    work = prompts.sample("crops", "prior", batch_size=2, start=60, stop=40, suit_prior=True)
    return cropped(2) | {"prior": prompts.load_prior(), "work": work}


def tuning() -> prompts.Prompt:
    prior = prompts.load_prior("tiny.safetensors")
    pairs = prompts.build("interrupted", "prior", crops=["crops", 0], score=0.05)
    settings = {"steps": 200, "patch": 256, "held_back": 0.0, "existing_run": "start anew"}
    work = prompts.finetune("interrupted", "pairs", **settings)
    work["inputs"] |= {"validate_every": 1000, "save_every": 1000}
    return cropped(1, 256) | {"prior": prior, "pairs": pairs, "work": work}


@pytest.mark.parametrize("make", [restoring, sampling, tuning])
def test_interrupt_is_obeyed_at_the_next_step(server: Server, make: Callable[[], prompts.Prompt]):
    """Of the steps that follow the third, the one under way is finished, and one told late."""
    prompt = make()
    prompt["shown"] = prompts.show("work", 1) if make is tuning else prompts.save("work")
    socket = websocket.create_connection(f"ws{server.url[4:]}/ws?clientId=test", timeout=120)
    try:
        prompt_id = server.queue(prompt, "test")
        asked = 0.0
        for event in events(socket):
            if event["type"] == "progress_state" and "work" in event["data"]["nodes"]:
                work = event["data"]["nodes"]["work"]
                done = work["value"] if work["state"] == "running" else 0  # the end counts as all
                if done >= 3 and not asked:
                    asked = done
                    server.post("/interrupt", {})
                assert not asked or done <= asked + 2
            elif event["type"] in ("execution_interrupted", "execution_success", "execution_error"):
                break
    finally:
        socket.close()
    result = server.wait(prompt_id)
    assert asked
    if make is tuning:  # what was learned so far goes on
        assert "interrupted" in result.output("shown")["text"][0]
    else:
        assert result.messages["execution_interrupted"]["node_id"] == "work"
    quick = prompts.workflow("face_restore_1_old_photo_gfpgan")
    assert run(server, quick), "ComfyUI goes on as before"


def events(socket: Any):
    """The editor's events, without pictures."""
    while True:
        message = socket.recv()
        if isinstance(message, str):
            yield json.loads(message)
