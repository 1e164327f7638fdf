"""The pack as the registry's archive brings it: unpacked into a fresh ComfyUI, it works."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness import PACK, PACK_NAME
from harness.server import find_comfyui, running_server
from tests.archive import pack
from tests.comfyui import prompts

pytestmark = pytest.mark.comfyui


def test_it_works_unpacked(tmp_path: Path):
    comfyui = find_comfyui()
    if comfyui is None:
        pytest.skip("no ComfyUI: set COMFYUI_PATH to its folder to run these tests")
    folder, base = tmp_path / "unpacked", tmp_path / "base"
    with zipfile.ZipFile(pack(tmp_path / "node.zip")) as archive:
        archive.extractall(folder)
    base.mkdir()
    with running_server(comfyui, base, folder) as server:
        assert "IMPORT FAILED" not in server.log_text()
        names = server.get("/workflow_templates")[PACK_NAME]
        assert set(names) == {path.stem for path in (PACK / "workflows").glob("*.json")}
        assert server.read(f"/extensions/{PACK_NAME}/docs/BFR_RestorePhoto.md")[:2] == b"# "
        assert server.get("/i18n")["zh"]["nodeDefs"]["BFR_RestorePhoto"]
        server.post("/face_restoration/examples", {})
        prompt = prompts.workflow("face_restore_1_old_photo_gfpgan")
        saved = prompts.only(prompt, "SaveImage")
        prompt["before"] = prompts.save(prompts.only(prompt, "LoadImage"))
        result = server.run(prompt)
        assert result.succeeded, result.messages
        (before,), (after,) = (server.images(result, key) for key in ("before", saved))
        assert np.abs(before.astype(int) - after.astype(int)).max() > 10
