"""The subgraph blueprints in a real ComfyUI: it lists them, and they run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bfr.prior.load import save_prior
from harness import PACK_NAME
from harness.server import Server
from samples.templates.blueprints import PATHS
from tests.blueprints import flatten, read
from tests.comfyui import prompts
from tests.priors import tiny_prior

pytestmark = pytest.mark.comfyui

SHOWN_AS = {"IMAGE": prompts.save, "MASK": None, "STRING": prompts.show}


def test_the_node_library_lists_them(server: Server):
    entries = server.get("/global_subgraphs")
    ours = {
        entry["name"]: key
        for key, entry in entries.items()
        if entry["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"
    }
    assert set(ours) == {path.stem for path in PATHS}
    for path in PATHS:
        data = server.get(f"/global_subgraphs/{ours[path.stem]}")["data"]
        assert json.loads(data) == json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs(server: Server, path: Path):
    """With a photograph, or an aligned face, at its input; pictures and texts come out."""
    folder = server.base / "models" / "face_priors"
    folder.mkdir(exist_ok=True)
    about = {"licence": "none", "provenance": "made by a rule"}
    save_prior(folder / "tiny.safetensors", tiny_prior(64), about)
    for done in ("datasets", "output/face_restoration_runs"):
        shutil.rmtree(server.base / done, ignore_errors=True)
    _, subgraph = read(path)
    given = {slot["name"]: ["photo", 0] for slot in subgraph["inputs"]}
    prompt, outputs = flatten(path, **given)
    prompts.quick(prompt, "tiny.safetensors")
    prompt["photo"] = prompts.example()
    if "faces" in given:
        prompt["whole"] = prompt.pop("photo")
        crop = {"image": ["whole", 0], "width": 256, "height": 256, "x": 70, "y": 60}
        prompt["photo"] = prompts.node("ImageCrop", **crop)
    for item in prompt.values():
        if item["class_type"] == "BFR_FinetuneRestorer":
            item["inputs"] |= {"steps": 2, "batch": 2, "patch": 32, "held_back": 0.0}
    kinds = {slot["name"]: slot["type"] for slot in subgraph["outputs"]}
    views = {name: SHOWN_AS.get(kinds[name]) for name in outputs}
    prompt |= {name: view(*outputs[name]) for name, view in views.items() if view}
    result = server.run(prompt)
    assert result.succeeded, result.messages
    for name, view in views.items():
        if view is prompts.save:
            assert all(image.std() > 0 for image in server.images(result, name)), name
        elif view is prompts.show:
            assert result.output(name)["text"][0]
