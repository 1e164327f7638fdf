"""Faces repainted by a diffusion model of the user's own, at its full size, in a real ComfyUI.

The weights are random, so that the repainted faces are noise around the shapes that are held.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from bfr.pairs.folder import read_pairs
from harness.server import Server
from tests.comfyui import prompts
from tests.comfyui.prompts import node

pytestmark = pytest.mark.comfyui

TEMPLATE = "face_restore_5_detailer_needs_own_checkpoint"
MEMORY = 10 << 30  # bytes: the file, its networks in single precision, and what they hold
SIDE = 256


@pytest.fixture
def checkpoint(server: Server):
    """The name of a full-size checkpoint."""
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < MEMORY:
        pytest.skip(f"needs {MEMORY >> 30} GiB of free memory")
    path = server.base / "models" / "checkpoints" / "random.safetensors"
    path.parent.mkdir(exist_ok=True)
    made = server.run({"make": node("ProbeCheckpoint", path=str(path))})
    assert made.succeeded, made.messages
    yield path.name
    server.free()
    path.unlink()


def test_faces_are_repainted_pasted_and_trained_with(server: Server, checkpoint: str):
    prompt = prompts.workflow(TEMPLATE)
    by_type = {item["class_type"]: key for key, item in prompt.items()}
    inputs = {name: prompt[key]["inputs"] for name, key in by_type.items()}
    inputs["CheckpointLoaderSimple"]["ckpt_name"] = checkpoint
    inputs["BFR_AlignFaces"]["size"] = SIDE
    inputs["KSampler"]["steps"] = 2
    decode, align = by_type["VAEDecode"], by_type["BFR_AlignFaces"]
    prompt["build"] = node(
        "BFR_BuildTrainingPairs",
        **prompts.build("repainted", "")["inputs"] | {"crop_size": SIDE},
        crops=[align, 0],
        guesses=[by_type["BFR_RestoreFaces"], 0],
        targets=[decode, 0],
    )
    del prompt["build"]["inputs"]["prior"]
    prompt["before"] = prompts.save(by_type["LoadImage"])
    prompt["faces"] = prompts.save(decode)
    prompt["tune"] = prompts.finetune("repainted", "build", steps=2, held_back=0.0)
    result = server.wait(server.queue(prompt), seconds=1200)
    assert result.succeeded, result.messages
    (before,), (after,) = (server.images(result, key) for key in ("before", by_type["SaveImage"]))
    changed = np.abs(before[..., :3].astype(int) - after).max(-1) > 2
    assert 0.01 < changed.mean() < 0.6, "only the face"
    (pair,) = read_pairs(server.base / "datasets" / "repainted").pairs
    assert pair.complete
    (repainted,) = server.images(result, "faces")
    assert repainted.shape == (SIDE, SIDE, 3) and repainted.std() > 1
