"""What is public of a node: what saved workflows name, and other packs build on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import stand_in

STOCK = Path(__file__).with_name("golden") / "stock_nodes.json"

_KEPT = ("default", "min", "max", "step", "options", "socketless")
_RELIED_ON = ("type", "optional", "socketless")
_SHOWING = {"PreviewAny", "PreviewImage", "SaveImage", "SaveVideo", "ImageCompare"}


def contract(info: Mapping[str, Any]) -> dict[str, Any]:
    """Ids, types, defaults and order of a node, from ComfyUI's ``/object_info``; no prose."""
    inputs = {}
    for side in ("required", "optional"):
        for id, (kind, *options) in info["input"].get(side, {}).items():
            kept = {key: value for key, value in (options or [{}])[0].items() if key in _KEPT}
            if isinstance(kind, list):  # how older nodes write a choice
                kind, kept["options"] = "COMBO", kind
            inputs[id] = {
                "type": kind,
                **({"optional": True} if side == "optional" else {}),
                **kept,
            }
    return {"inputs": inputs, "outputs": info["output"]}


def used(
    prompts: Iterable[Mapping[str, Any]], info: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The contracts of ComfyUI's own nodes, as far as prompts in API format rely on them.

    Args:
        prompts: ours.
        info: ComfyUI's ``/object_info``, or `described` ones.
    """
    found: dict[str, Any] = {}
    for node in (node for prompt in prompts for node in prompt.values()):
        name = node["class_type"]
        if name.startswith("BFR_"):
            continue
        whole = contract(info[name])
        kept = found.setdefault(name, {"inputs": {}, "outputs": whole["outputs"]})
        for id in node["inputs"]:
            about = whole["inputs"].get(id) or whole["inputs"][id.split(".")[0]]  # or of a group
            kept["inputs"][id] = {k: v for k, v in about.items() if k in _RELIED_ON}
    return {name: found[name] for name in sorted(found)}


def described(contracts: Mapping[str, Any]) -> dict[str, Any]:
    """Contracts in the form of ``/object_info``, for validation without ComfyUI."""
    info = {}
    for name, each in contracts.items():
        sides: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        for id, value in each["inputs"].items():
            sides["optional" if value.get("optional") else "required"][id] = [value["type"], value]
        info[name] = {
            "input": sides,
            "input_order": {side: list(inputs) for side, inputs in sides.items()},
            "output": each["outputs"],
            "output_name": each["outputs"],
            "output_is_list": [False] * len(each["outputs"]),
            "name": name,
            "display_name": name,
            "category": "",
            "description": "",
            "output_node": name in _SHOWING,
        }
    return info


# What tests show results with, whether a workflow of ours does or not.
_ANY = {"PreviewAny": {"inputs": {"source": {"type": "*"}}, "outputs": ["STRING"]}}


def write_known(path: Path) -> Path:
    """Writes all nodes that our workflows use as ``/object_info`` has them; returns the path."""
    stock = json.loads(STOCK.read_text("utf-8"))
    path.write_text(json.dumps({**described({**stock, **_ANY}), **stand_in.object_info()}), "utf-8")
    return path
