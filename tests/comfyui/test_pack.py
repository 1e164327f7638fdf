"""The pack in a real ComfyUI: it loads, and its nodes are the ones that other tests know.

``BFR_RECORD=1 make test-comfyui ARGS=tests/comfyui/test_pack.py`` records again what our workflows
use of ComfyUI's own nodes.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from harness import PACK, PACK_NAME, stand_in
from harness.server import Server
from tests import node_schemas

pytestmark = pytest.mark.comfyui


@pytest.fixture
def info(server: Server) -> dict[str, Any]:
    return server.get("/object_info")


def ours(info: dict[str, Any]) -> set[str]:
    return {node_id for node_id in info if node_id.startswith("BFR_")}


def test_pack_is_imported_without_complaint(server: Server):
    log = server.log_text()
    line = re.search(rf"[\d.]+ seconds(.*): .*{PACK_NAME}", log)
    assert line and not line[1], "\n".join(x for x in log.splitlines() if PACK_NAME in x)


def test_nodes_are_what_the_stand_in_reads(info):
    known = stand_in.object_info()
    assert ours(info) == set(known)
    for node_id, expected in known.items():
        found = info[node_id]
        assert node_schemas.contract(found) == node_schemas.contract(expected)
        for text in ("display_name", "description", "category", "search_aliases", "output_name"):
            assert found[text] == expected[text], node_id


def test_comfyuis_own_nodes_are_as_our_workflows_need_them(info):
    prompts = [
        json.loads(path.read_text("utf-8"))
        for path in sorted((PACK / "workflows" / "api").glob("*.json"))
    ]
    found = node_schemas.used(prompts, info)
    if os.environ.get("BFR_RECORD"):
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        node_schemas.STOCK.write_text(text, "utf-8")
    recorded = json.loads(node_schemas.STOCK.read_text("utf-8"))
    assert found == recorded


def test_gallery_serves_the_workflows_and_their_pictures(server: Server):
    """A folder named examples/ beside workflows/ would take their place in the gallery."""
    names = server.get("/workflow_templates")[PACK_NAME]
    assert set(names) == {path.stem for path in (PACK / "workflows").glob("*.json")}
    for name in names:
        assert server.get(f"/api/workflow_templates/{PACK_NAME}/{name}.json")["nodes"]
        assert server.read(f"/api/workflow_templates/{PACK_NAME}/{name}.jpg")[:2] == b"\xff\xd8"


def test_help_pages_are_served(server: Server, info):
    for node_id in ours(info):
        page = server.read(f"/extensions/{PACK_NAME}/docs/{node_id}.md").decode()
        assert page.startswith("# ")


def test_translations_are_served(server: Server, info):
    texts = server.get("/i18n")
    for path in (PACK / "locales").glob("*/nodeDefs.json"):
        assert ours(info) <= set(texts[path.parent.name]["nodeDefs"])


def test_model_folders_are_added_and_nothing_taken(server: Server, info):
    options = info["BFR_LoadRestorer"]["input"]["required"]["restorer_name"][1]["options"]
    assert options[0] == "embedded default" and "GFPGANv1.4.pth" in options
    assert "facerestore_models" in server.get("/models")
    assert "upscale_models" in server.get("/models")
