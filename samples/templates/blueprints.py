"""Gives the nodes inside the subgraph blueprints the inputs that were added to them since.

``python -m samples.templates.blueprints`` writes ``subgraphs/`` again; new inputs get their
defaults, and what was set stays.
"""

from __future__ import annotations

import json
from typing import Any

from harness import PACK
from harness.stand_in import object_info

PATHS = sorted((PACK / "subgraphs").glob("*.json"))
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
AFTER_SEED = "control_after_generate"


def follow(node: dict[str, Any], info: dict[str, Any]) -> None:
    """Adds to a node's slots and values what the recorded node has and it has not."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    known = {slot["name"] for slot in node["inputs"]}
    values = {}
    for name, (kind, about) in inputs.items():
        is_widget = kind in WIDGETS
        if name not in known:
            slot = {"localized_name": name, "name": name, "type": kind, "link": None}
            slot |= {"label": about["display_name"]}
            node["inputs"].append(slot | ({"widget": {"name": name}} if is_widget else {}))
        if is_widget:
            values[name] = node["widgets_values_named"].get(name, about.get("default"))
            if about.get(AFTER_SEED):
                values["fixed"] = "fixed"  # as the editor names it
    node["widgets_values_named"], node["widgets_values"] = values, list(values.values())


def main() -> None:
    known = object_info()
    for path in PATHS:
        blueprint = json.loads(path.read_text("utf-8"))
        (subgraph,) = blueprint["definitions"]["subgraphs"]
        for node in subgraph["nodes"]:
            follow(node, known[node["type"]])
        path.write_text(json.dumps(blueprint, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(path)


if __name__ == "__main__":
    main()
