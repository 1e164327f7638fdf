"""The nodes of sampling in a real ComfyUI, with a prior so small that its faces are noise."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bfr.prior.load import save_prior
from harness import PACK
from harness.server import Server
from tests.comfyui import prompts
from tests.comfyui.previews import listening
from tests.comfyui.prompts import node
from tests.priors import tiny_prior

pytestmark = pytest.mark.comfyui

SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def prior(server: Server) -> str:
    """The name of a prior among the server's models."""
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    about = {"licence": "none", "provenance": "made by a rule"}
    save_prior(folder / "tiny.safetensors", tiny_prior(SIZE), about)
    return "tiny.safetensors"


def draw_thumbnail(target: np.ndarray, cells: list[np.ndarray], path: Path) -> None:
    """The gallery's picture: a pseudo target, and on its right the sweep's faces."""
    picture = Image.new("RGB", (1024, 512))
    picture.paste(Image.fromarray(target).resize((512, 512), Image.Resampling.LANCZOS))
    columns = math.isqrt(len(cells))
    side = 512 // columns
    for index, cell in enumerate(cells[: columns**2]):
        y, x = divmod(index, columns)
        place = (512 + 512 * x // columns, 512 * y // columns)
        picture.paste(Image.fromarray(cell).resize((side, side), Image.Resampling.LANCZOS), place)
    picture.save(path, quality=85)


def test_workflow_tune_guidance(server: Server, prior: str):
    prompt = prompts.workflow("face_tune_1_guidance")
    if not os.environ.get("BFR_RECORD"):
        prompt = prompts.quick(prompt, prior)
    sweep = prompts.only(prompt, "BFR_SweepGuidance")
    prompt |= {
        "target": prompts.save(prompts.only(prompt, "BFR_SamplePseudoTargets")),
        "cells": prompts.save(sweep, 1),
        "figures": prompts.show(sweep, 2),
    }
    result = server.run(prompt)
    assert result.succeeded, result.messages
    assert result.output(prompts.titled(prompt, "Figures of the sweep"))["bfr_report"]
    (target,), cells = server.images(result, "target"), server.images(result, "cells")
    assert target.shape == (256, 256, 3) and len(cells) == 15
    assert len(result.output("figures")["text"][0].splitlines()) == 16
    if os.environ.get("BFR_RECORD"):
        draw_thumbnail(target, cells, PACK / "workflows" / "face_tune_1_guidance.jpg")


def sampling(prior: str, count: int = 1, **changes) -> prompts.Prompt:
    """Crops without any detector, and Sample Pseudo Targets."""
    return {
        "photo": prompts.example(),
        "crop": node("ImageCrop", image=["photo", 0], width=96, height=96, x=150, y=120),
        "crops": node("RepeatImageBatch", image=["crop", 0], amount=count),
        "prior": prompts.load_prior(prior),
        "sample": prompts.sample("crops", "prior", **changes),
        "targets": prompts.save("sample"),
        "reference": prompts.save("sample", 1),
        "report": prompts.show("sample", 2),
    }


def test_targets_reference_and_report(server: Server, prior: str):
    result = server.run(sampling(prior, count=2))
    assert result.succeeded, result.messages
    targets, references = server.images(result, "targets"), server.images(result, "reference")
    assert [image.shape for image in (*targets, *references)] == [(96, 96, 3)] * 4
    assert (targets[0] != targets[1]).any(), "each face has a seed of its own"
    assert (references[0] == references[1]).all()
    report = result.output("report")["text"][0]
    assert "resized from 96 px to the prior's 64 px" in report and "8 network calls" in report


def test_a_face_is_the_same_in_any_batch(server: Server, prior: str):
    (alone,) = server.images(server.run(sampling(prior, seed=5)), "targets")
    _, second = server.images(server.run(sampling(prior, count=2, seed=4)), "targets")
    assert np.abs(alone.astype(int) - second.astype(int)).max() <= 1


def test_settings_suit_a_prior_of_another_size(server: Server, prior: str):
    paper = {"start": 150, "stop": 90, "sampler": "dpm-solver++", "calls": 4, "suit_prior": True}
    report = server.run(sampling(prior, **paper)).output("report")["text"][0]
    assert "start 150" in report and "step 53 of 250" in report and "factor 1)" in report


def test_half_precision_gives_nearly_the_same(server: Server, prior: str):
    prompt = sampling(prior)
    (exact,) = server.images(server.run(prompt), "targets")
    prompt["prior"]["inputs"]["precision"] = "bfloat16"
    (near,) = server.images(server.run(prompt), "targets")
    difference = np.abs(exact.astype(int) - near.astype(int))
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize(
    ("preview", "panels"),
    [("face, reference and difference", 3), ("predicted face", 1), ("none", 0)],
)
def test_previews_arrive_while_it_samples(server: Server, prior: str, preview: str, panels: int):
    prompt = sampling(prior, preview=preview, seed=10 + panels)
    with listening(server) as seen:
        assert server.wait(server.queue(prompt, "test")).succeeded
    shown = [picture for about, picture in seen if about["node_id"] == "sample"]
    assert len(shown) == (8 if panels else 0), "one a network call"
    assert {picture.size for picture in shown} <= {(panels * SIZE, SIZE)}
    if panels == 3:
        reference = np.asarray(shown[-1])[:, SIZE : 2 * SIZE]
        assert reference.std() > 5, "the middle panel shows the guess"


def test_no_face_gives_no_target(server: Server, prior: str):
    prompt = sampling(prior)
    prompt |= {
        "none": prompts.faceless(),
        "detector": node("BFR_LoadFaceDetector", detector_name="embedded default", download=False),
        "detect": prompts.detect("none", "detector"),
        "crops": node("BFR_AlignFaces", image=["none", 0], faces=["detect", 0], size=128),
    }
    del prompt["targets"], prompt["reference"]
    result = server.run(prompt)
    assert result.succeeded, result.messages
    assert result.output("report")["text"][0].startswith("0 faces")


def sweeping(prior: str, **changes) -> prompts.Prompt:
    prompt = sampling(prior)
    for name in ("sample", "targets", "reference"):
        del prompt[name]
    return prompt | {
        "sweep": prompts.sweep("crops", "prior", **changes),
        "grid": prompts.save("sweep"),
        "cells": prompts.save("sweep", 1),
        "report": prompts.show("sweep", 2),
    }


def test_sweep_draws_a_labelled_grid(server: Server, prior: str):
    result = server.run(sweeping(prior))
    assert result.succeeded, result.messages
    (grid,) = server.images(result, "grid")
    assert grid.shape[0] > 2 * 96 and grid.shape[1] > 2 * 96
    title, *lines = result.output("report")["text"][0].splitlines()
    assert title == "start 8, strength 1, sampler ddpm, seed 0"
    assert [line.split(":")[0] for line in lines] == [
        f"stop {stop}, low-pass factor {factor}" for stop in (2, 6) for factor in (4, 8)
    ]
    assert all("like" in line and "sharp" in line for line in lines)


def test_a_cell_is_what_sampling_alone_gives(server: Server, prior: str):
    """All cells share the noise, which is that of Sample Pseudo Targets with the same seed."""
    cells = server.images(server.run(sweeping(prior, seed=3)), "cells")
    (alone,) = server.images(server.run(sampling(prior, seed=3, stop=6)), "targets")
    assert len(cells) == 4 and (cells[3] == alone).all()


def test_impossible_combinations_stay_empty(server: Server, prior: str):
    result = server.run(sweeping(prior, across_values="8, 7", down_values="4, 9"))
    assert result.succeeded, result.messages
    assert len(server.images(result, "cells")) == 1
    lines = result.output("report")["text"][0].splitlines()[1:]
    assert ["left out" in line for line in lines] == [False, True, True, True]
    assert "divide" in lines[1] and "got 7" in lines[1] and "below start" in lines[2]


def test_sweep_of_one_parameter_with_a_detector(server: Server, prior: str):
    prompt = sweeping(prior, across="sampler", across_values="ddim, unipc", down="none", calls=4)
    prompt["detector"] = node(
        "BFR_LoadFaceDetector", detector_name="embedded default", download=False
    )
    prompt["sweep"]["inputs"]["detector"] = ["detector", 0]
    result = server.run(prompt)
    assert result.succeeded, result.messages
    title, *lines = result.output("report")["text"][0].splitlines()
    assert title.endswith("network calls 4, seed 0") and "sampler" not in title
    assert [line.split(":")[0] for line in lines] == ["sampler ddim", "sampler unipc"]
    assert all("no\u00a0face" in line for line in lines), "noise shows none"


# What is done wrong to Sample Pseudo Targets, or to Sweep Guidance, and what is said.
MISTAKES = {
    "stop above start": ("sample", {"stop": 9}, "stop must be below start"),
    "factor": ("sample", {"factor": 7}, "64, got 7"),
    "more calls than steps": ("sample", {"calls": 20}, "calls must be"),
    "start above the steps": ("sample", {"start": 60, "steps": 50}, "start must be at most 50"),
    "values are words": ("sweep", {"across_values": "some"}, "whole numbers, such as 8, 16, 32"),
    "no values": ("sweep", {"down_values": " , "}, "whole numbers"),
    "the same twice": ("sweep", {"down": "low-pass factor"}, "two parameters"),
    "nothing possible": ("sweep", {"down_values": "8, 9"}, "got 0 of 4"),
    "face": ("sweep", {"face_number": 2}, "faces in crops, 1, got 2"),
    "face of an older workflow": ("sweep", {"face": 1}, "faces in crops, 1, got 2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(server: Server, prior: str, mistake: str):
    key, change, message = MISTAKES[mistake]
    prompt = (sampling if key == "sample" else sweeping)(prior, **change)
    result = server.run(prompt)
    assert not result.succeeded and result.error["node_id"] == key
    assert message in result.error["exception_message"]


def test_prior_of_another_kind_is_refused(server: Server):
    folder = server.base / "models" / "face_priors"
    weights = PACK / "weights" / "restorer.safetensors"
    (folder / "restorer.safetensors").write_bytes(weights.read_bytes())
    result = server.run(sampling("restorer.safetensors"))
    assert result.error["node_id"] == "prior" and "prior" in result.error["exception_message"]


def test_published_prior_is_not_downloaded_by_itself(server: Server):
    result = server.run(sampling("iddpm_ffhq512_ema500000.pth"))
    assert result.error["node_id"] == "prior"
    assert "nothing downloads by itself" in result.error["exception_message"]


def test_diffusers_folder_is_listed_and_read(server: Server):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
    )
    pipeline = DDPMPipeline(network, DDPMScheduler())
    pipeline.save_pretrained(server.base / "models" / "diffusers" / "faces" / "ddpm-32")
    info = server.get("/object_info/BFR_LoadPrior")["BFR_LoadPrior"]
    options = info["input"]["required"]["prior_name"][1]["options"]
    assert "faces/ddpm-32" in options
    assert not [name for name in options if "diffusion_pytorch_model" in name]
    result = server.run(sampling("faces/ddpm-32"))
    assert result.succeeded, result.messages
    assert "the prior's 32 px" in result.output("report")["text"][0]


def test_interrupt_stops_sampling_and_leaves_nothing(server: Server, prior: str):
    server.free()
    prompt_id = server.queue(sampling(prior, count=256, start=150, stop=90))
    end = time.monotonic() + 30
    while "UNet" not in server.get("/probe/managed") and time.monotonic() < end:
        time.sleep(0.1)
    assert server.running(), "the prompt was over before it could be interrupted"
    server.post("/interrupt", {})
    start = time.monotonic()
    result = server.wait(prompt_id, seconds=30)
    assert result.messages["execution_interrupted"]["node_id"] == "sample"
    assert time.monotonic() - start < 15
    server.free()
    assert server.get("/probe/loaded") == {"managed": [], "cached": []}


def constrained(sampler: str = "euler", free: bool = False, **changes) -> prompts.Prompt:
    """KSampler with a stand-in for a model, held by Apply Consistency, and the distance left."""
    inputs = {"factor": 4, "strength": 1.0, "start": 0.0, "stop": 1.0, **changes}
    return {
        "model": node("ProbeModel"),
        "reference": node("ProbeLatent", channels=4, height=32, width=40, count=1),
        "empty": node("EmptyLatentImage", width=320, height=256, batch_size=2),
        "hold": node(
            "BFR_ApplyConsistency",
            **{"model": ["model", 0], "reference": ["reference", 0], **inputs},
        ),
        "sampler": node(
            "KSampler",
            model=["model" if free else "hold", 0],
            positive=["model", 1],
            negative=["model", 1],
            latent_image=["empty", 0],
            seed=1,
            steps=6,
            cfg=3.0,
            sampler_name=sampler,
            scheduler="normal",
            denoise=1.0,
        ),
        "apart": node("ProbeDistance", one=["reference", 0], other=["sampler", 0], square=8),
        "distance": prompts.show("apart"),
    }


def distance(server: Server, prompt: prompts.Prompt) -> float:
    result = server.run(prompt)
    assert result.succeeded, result.messages
    return float(result.output("distance")["text"][0])


@pytest.mark.parametrize("sampler", ["euler", "ddpm", "dpmpp_2m_sde", "uni_pc", "euler_cfg_pp"])
def test_any_sampler_keeps_to_the_reference(server: Server, sampler: str):
    free = distance(server, constrained(sampler, free=True))
    assert distance(server, constrained(sampler)) < free / 2


def test_strength_and_stop_set_the_model_free(server: Server):
    free = distance(server, constrained(free=True))
    assert distance(server, constrained(strength=0.0)) == free
    early = distance(server, constrained(stop=0.5))
    assert early != free and early > distance(server, constrained())


def test_sides_that_the_factor_does_not_divide_are_mirrored(server: Server):
    free = distance(server, constrained(free=True))
    assert distance(server, constrained(factor=6)) < free / 2


@pytest.mark.parametrize(
    ("change", "node_id", "message"),
    [
        ({"start": 0.5, "stop": 0.5}, "hold", "start must be below stop"),
        ({"factor": 33}, "sampler", "at most the latent's shorter side, 32"),
    ],
)
def test_mistakes_with_any_model(server: Server, change: dict, node_id: str, message: str):
    result = server.run(constrained(**change))
    assert result.error["node_id"] == node_id and message in result.error["exception_message"]


@pytest.mark.parametrize("wrong", [{"width": 32}, {"channels": 16}, {"count": 3}])
def test_reference_must_fit_the_latent(server: Server, wrong: dict):
    prompt = constrained()
    prompt["reference"]["inputs"] |= wrong
    result = server.run(prompt)
    assert result.error["node_id"] == "sampler"
    assert "The reference must" in result.error["exception_message"]
