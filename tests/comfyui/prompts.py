"""Prompts in API format, for the tests."""

from __future__ import annotations

import json
from typing import Any

from harness import PACK

Prompt = dict[str, dict[str, Any]]


def workflow(name: str) -> Prompt:
    """The API twin of a workflow."""
    return json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text("utf-8"))


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def only(prompt: Prompt, class_type: str) -> str:
    """The id of the one node of that class."""
    (key,) = (key for key, item in prompt.items() if item["class_type"] == class_type)
    return key


def titled(prompt: Prompt, title: str) -> str:
    """The id of the one node of that title."""
    (key,) = (key for key, item in prompt.items() if item.get("_meta", {}).get("title") == title)
    return key


def quick(prompt: Prompt, prior: str) -> Prompt:
    """A workflow with another prior and only four network calls a face."""
    for item in prompt.values():
        changes = {"prior_name": prior, "calls": 4}
        item["inputs"] |= {key: value for key, value in changes.items() if key in item["inputs"]}
    return prompt


def example(photo: str = "grace_hopper.jpg", damage: str = "faded print", seed: int = 7):
    return node("BFR_LoadExamplePhoto", photo=photo, damage=damage, damage_seed=seed)


def faceless(side: int = 256):
    return node("EmptyImage", width=side, height=side, batch_size=1, color=0x336699)


def detect(image: str, detector: str, score: float = 0.5):
    return node(
        "BFR_DetectFaces", image=[image, 0], detector=[detector, 0], score=score, min_size=0
    )


def restore_faces(crops: str, restorer: str, **changes: Any):
    inputs = {"fidelity": 0.5, "strength": 1.0, "lock": 0.0, "lock_factor": 16, "batch_size": 8}
    links = {"crops": [crops, 0], "restorer": [restorer, 0]}
    return node("BFR_RestoreFaces", **{**inputs, **links, **changes})


def paste(image: str, crops: str, alignment: str, **changes: Any):
    inputs = {"mask_mode": "soft oval", "feather": 0.1, "colour_match": "low frequency"}
    links = {"image": [image, 0], "crops": [crops, 0], "alignment": [alignment, 1]}
    return node("BFR_PasteFaces", **{"strength": 1.0, **inputs, **links, **changes})


def restore_photo(image: str, **changes: Any):
    inputs = {
        "fidelity": 0.5,
        "strength": 1.0,
        "lock": 0.0,
        "score": 0.5,
        "min_size": 0,
        "crop_size": 0,
        "mask_mode": "auto",
        "feather": 0.1,
        "colour_match": "low frequency",
        "batch_size": 8,
    }
    return node("BFR_RestorePhoto", image=[image, 0], **{**inputs, **changes})


def save(image: str, slot: int = 0):
    return node("SaveImage", images=[image, slot], filename_prefix="test")


def show(source: str, slot: int = 0):
    return node("PreviewAny", source=[source, slot])


def mask(source: str, slot: int = 1) -> Prompt:
    """A saved picture of a mask, as nodes ``mask`` and ``mask image``."""
    return {"mask image": node("MaskToImage", mask=[source, slot]), "mask": save("mask image")}


def load_prior(name: str = "embedded default", **changes: Any):
    inputs = {"download": False, "preset": "auto", "size": 0, "head_channels": 0}
    inputs |= {"precision": "float32"}
    return node("BFR_LoadPrior", prior_name=name, **{**inputs, **changes})


GUIDANCE = {
    "start": 8,
    "stop": 4,
    "factor": 8,
    "strength": 1.0,
    "sampler": "ddpm",
    "calls": 0,
    "seed": 0,
    "eta": 0.0,
    "steps": 250,
    "suit_prior": False,
}


def sample(crops: str, prior: str, **changes: Any):
    inputs = {**GUIDANCE, "batch_size": 4, "preview": "face, reference and difference"}
    links = {"crops": [crops, 0], "prior": [prior, 0]}
    return node("BFR_SamplePseudoTargets", **{**inputs, **links, **changes})


def sweep(crops: str, prior: str, **changes: Any):
    axes = {"across": "low-pass factor", "across_values": "4, 8", "face": 0}
    axes |= {"down": "stop", "down_values": "2, 6"}
    links = {"crops": [crops, 0], "prior": [prior, 0]}
    return node("BFR_SweepGuidance", **{**GUIDANCE, **axes, **links, **changes})


def build(name: str, prior: str, **changes: Any):
    inputs = {**GUIDANCE, "batch_size": 4, "fidelity": 0.5, "score": 0.5, "min_size": 0}
    inputs |= {"pairs_name": name, "folder": "", "guess_folder": "", "crop_size": 0}
    return node("BFR_BuildTrainingPairs", **{**inputs, "prior": [prior, 0], **changes})


def degrade(image: str, damage: str = "gfpgan", seed: int = 0, **changes: Any):
    own = ("blur", "downscale", "noise", "iso", "jpeg", "screen", "fade", "tint")
    inputs = {**dict.fromkeys(own, -1.0), "damage": damage, "seed": seed, **changes}
    return node("BFR_DegradeFaces", image=[image, 0], **inputs)


def finetune(name: str, pairs: str, **changes: Any):
    """A few steps of small patches, without a discriminator."""
    inputs = {"preset": "quick", "steps": 4, "seed": 0, "learning_rate": 0.001, "batch": 2}
    inputs |= {"micro_batch": 0, "patch": 32, "distance": "pyramid", "pixel": -1.0}
    inputs |= {"perceptual": -1.0, "adversarial": 0.0, "ema": 0.0, "precision": "float32"}
    inputs |= {"checkpointing": False, "held_back": 0.3, "validate_every": 2, "save_every": 2}
    inputs |= {"existing_run": "continue", "keep_worse": True, "clean_folder": ""}
    links = {"pairs": [pairs, 0]}
    return node("BFR_FinetuneRestorer", run_name=name, **{**inputs, **links, **changes})


def save_restorer(restorer: str, name: str, **changes: Any):
    inputs = {"file_name": name, "half": False, "overwrite": False, "restorer": [restorer, 0]}
    return node("BFR_SaveRestorer", **{**inputs, **changes})


def measure(restored: str, **changes: Any):
    inputs = {"name": "first", "compared_name": "second", "extra": "", "restored": [restored, 0]}
    return node("BFR_MeasureFaces", **{**inputs, **changes})
