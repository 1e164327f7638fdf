"""The subgraph blueprints as prompts, without the editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GIVEN, TAKEN = -10, -20  # the ids of a subgraph's own inputs and outputs


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A blueprint's one node, and the subgraph that it stands for."""
    content = json.loads(path.read_text("utf-8"))
    (host,) = content["nodes"]
    (subgraph,) = content["definitions"]["subgraphs"]
    return host, subgraph


def flatten(path: Path, **given: list) -> tuple[dict[str, dict[str, Any]], dict[str, list]]:
    """A blueprint as a prompt in API format, and where its outputs come from.

    Args:
        path: the blueprint.
        given: for the subgraph's inputs, by name, node and slot as in a prompt; none is needed.
    """
    _, subgraph = read(path)
    prompt: dict[str, dict[str, Any]] = {}
    for node in subgraph["nodes"]:
        names = {slot["name"] for slot in node["inputs"] if "widget" in slot}
        values = {key: value for key, value in node["widgets_values_named"].items() if key in names}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": values}
    slots = {node["id"]: node["inputs"] for node in subgraph["nodes"]}
    outputs = {}
    for link in subgraph["links"]:
        source = [str(link["origin_id"]), link["origin_slot"]]
        if link["origin_id"] == GIVEN:
            source = given.get(subgraph["inputs"][link["origin_slot"]]["name"])
        if link["target_id"] == TAKEN:
            outputs[subgraph["outputs"][link["target_slot"]]["name"]] = source
        elif source is not None:
            name = slots[link["target_id"]][link["target_slot"]]["name"]
            prompt[str(link["target_id"])]["inputs"][name] = source
    return prompt, outputs
