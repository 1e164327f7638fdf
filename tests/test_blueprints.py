"""The subgraph blueprints against the recorded nodes, without ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.stand_in import object_info
from samples.templates.blueprints import PATHS
from tests.blueprints import GIVEN, TAKEN, flatten, read
from tests.comfy_cli import run_comfy_cli
from tests.node_schemas import write_known

NODES = object_info()
OWN = {"size", "pairs_name", "run_name"}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_are_blueprints():
    assert len(PATHS) >= 3


def test_it_is_one_node_with_its_names(path: Path):
    """The editor gives a blueprint the name of its file."""
    host, subgraph = read(path)
    assert host["type"] == subgraph["id"]
    assert host["title"] == subgraph["name"] == path.stem
    assert subgraph["description"] and len(subgraph["category"]) > 0
    for side in ("inputs", "outputs"):
        assert [x["name"] for x in host[side]] == [x["name"] for x in subgraph[side]]
        assert [x["type"] for x in host[side]] == [x["type"] for x in subgraph[side]]
    ids = [other_id for p in PATHS for other_id in [read(p)[1]["id"]]]
    assert len(set(ids)) == len(ids)


def test_links_join_what_exists(path: Path):
    _, subgraph = read(path)
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    for link in subgraph["links"]:
        at_end = link["origin_id"] == GIVEN
        source = subgraph["inputs"] if at_end else nodes[link["origin_id"]]["outputs"]
        origin = source[link["origin_slot"]]
        assert link["id"] in (origin["linkIds"] if at_end else origin["links"])
        at_end = link["target_id"] == TAKEN
        sink = subgraph["outputs"] if at_end else nodes[link["target_id"]]["inputs"]
        target = sink[link["target_slot"]]
        assert link["id"] in target["linkIds"] if at_end else link["id"] == target["link"]
        assert link["type"] == origin["type"] and link["type"] in target["type"].split(",")
    places = [(link["target_id"], link["target_slot"]) for link in subgraph["links"]]
    assert len(set(places)) == len(places)


def test_nodes_are_the_recorded_ones(path: Path):
    for node in read(path)[1]["nodes"]:
        info: dict[str, Any] = NODES[node["type"]]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert {slot["name"] for slot in node["inputs"]} == set(inputs)
        assert [slot["name"] for slot in node["outputs"]] == info["output_name"]
        assert list(node["widgets_values_named"].values()) == node["widgets_values"]


def test_what_it_sets_is_what_the_nodes_set_by_themselves(path: Path):
    """But for names, and the size of the embedded networks."""
    for node in read(path)[1]["nodes"]:
        info: dict[str, Any] = NODES[node["type"]]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        for name, value in node["widgets_values_named"].items():
            if name in inputs and "default" in inputs[name][1] and name not in OWN:
                assert value == inputs[name][1]["default"], f"{node['type']}.{name}"


def test_shown_widgets_exist(path: Path):
    host, subgraph = read(path)
    widgets = {
        (str(node["id"]), slot["name"])
        for node in subgraph["nodes"]
        for slot in node["inputs"]
        if "widget" in slot
    }
    shown = [tuple(pair) for pair in host["properties"]["proxyWidgets"]]
    assert shown and len(set(shown)) == len(shown) and set(shown) <= widgets


def test_it_is_a_valid_prompt(path: Path, tmp_path: Path):
    """By comfy-cli's own validation, with a photograph at its input."""
    _, subgraph = read(path)
    photo = NODES["BFR_LoadExamplePhoto"]["input"]["required"]
    values = {"photo": photo["photo"][1]["default"], "damage": "noise", "damage_seed": 1}
    given = {slot["name"]: ["photo", 0] for slot in subgraph["inputs"]}
    prompt, outputs = flatten(path, **given)
    assert set(outputs) == {slot["name"] for slot in subgraph["outputs"]}
    prompt["photo"] = {"class_type": "BFR_LoadExamplePhoto", "inputs": values}
    prompt |= {
        f"show {name}": {"class_type": "PreviewAny", "inputs": {"source": source}}
        for name, source in outputs.items()
    }
    file = tmp_path / "prompt.json"
    file.write_text(json.dumps(prompt), "utf-8")
    known = write_known(tmp_path / "object_info.json")
    arguments = ("--json", "workflow", "validate", "--input", known, "--workflow", file)
    run = run_comfy_cli(*arguments, home=tmp_path, folder=tmp_path)
    verdict = json.loads(run.stdout)
    assert verdict["ok"] and verdict["data"]["valid"], verdict["data"]
    assert not verdict["data"]["warnings"], verdict["data"]["warnings"]
