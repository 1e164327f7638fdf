"""The pack in a real ComfyUI: it loads, and its nodes are the recorded ones.

``BFR_RECORD=1 make test-comfyui ARGS=tests/comfyui/test_pack.py`` records them anew after a
change. Only add to ``node_schemas.json``: ids and the order of outputs are public.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.comfyui.server import PACK, PACK_NAME, Server

pytestmark = pytest.mark.comfyui

GOLDEN = PACK / "tests" / "golden"
EDITOR_ONLY = {"Note", "MarkdownNote"}
IMPORT_SECONDS = 1.0  # 0.1 on an idle machine


def compare(path: Path, found: dict) -> None:
    """Holds what ComfyUI says to the recorded file, or records it when asked to."""
    if os.environ.get("BFR_RECORD"):
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert found == json.loads(path.read_text("utf-8")), f"{path.name} is out of date"


def stock_nodes() -> set[str]:
    """The nodes of ComfyUI's own that our workflows use."""
    types = {
        node["type"]
        for path in (PACK / "workflows").glob("*.json")
        for node in json.loads(path.read_text("utf-8"))["nodes"]
    }
    return {name for name in types - EDITOR_ONLY if not name.startswith("BFR_")} | {"LoadImage"}


def test_pack_is_imported_quickly_and_without_complaint(server: Server):
    log = server.log_text()
    line = re.search(rf"([\d.]+) seconds(.*): .*{PACK_NAME}", log)
    assert line and not line[2], "\n".join(x for x in log.splitlines() if PACK_NAME in x)
    assert float(line[1]) < IMPORT_SECONDS


def test_schemas_are_the_recorded_ones(server: Server):
    compare(GOLDEN / "node_schemas.json", server.get("/probe/schemas"))


def test_object_info_is_the_recorded_one(server: Server):
    info = server.get("/object_info")
    ours = sorted(key for key in info if key.startswith("BFR_"))
    found = {key: info[key] for key in (*ours, *sorted(stock_nodes()))}
    found["LoadImage"]["input"]["required"]["image"][0] = []  # whatever lies in the input folder
    compare(GOLDEN / "object_info.json", found)


def test_gallery_serves_the_workflows_and_their_pictures(server: Server):
    """A folder named examples/ beside workflows/ would take their place in the gallery."""
    names = server.get("/workflow_templates")[PACK_NAME]
    assert set(names) == {path.stem for path in (PACK / "workflows").glob("*.json")}
    for name in names:
        assert server.get(f"/api/workflow_templates/{PACK_NAME}/{name}.json")["nodes"]
        assert server.read(f"/api/workflow_templates/{PACK_NAME}/{name}.jpg")[:2] == b"\xff\xd8"


def test_help_pages_are_served(server: Server):
    for node_id in server.get("/probe/schemas"):
        page = server.read(f"/extensions/{PACK_NAME}/docs/{node_id}.md").decode()
        assert page.startswith("# ")


def test_translations_are_served(server: Server):
    texts = server.get("/i18n")
    for path in (PACK / "locales").glob("*/nodeDefs.json"):
        assert set(server.get("/probe/schemas")) <= set(texts[path.parent.name]["nodeDefs"])


def test_model_folders_are_added_and_nothing_taken(server: Server):
    info = server.get("/object_info")
    options = info["BFR_LoadRestorer"]["input"]["required"]["restorer_name"][1]["options"]
    assert options[0] == "embedded default" and "GFPGANv1.4.pth" in options
    assert "facerestore_models" in server.get("/models")
    assert "upscale_models" in server.get("/models")
