"""One ComfyUI for all tests of this folder."""

from __future__ import annotations

import pytest

from harness.server import find_comfyui, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory):
    comfyui = find_comfyui()
    if comfyui is None:
        pytest.skip("no ComfyUI: set COMFYUI_PATH to its folder to run these tests")
    with running_server(comfyui, tmp_path_factory.mktemp("comfyui")) as running:
        running.post("/face_restoration/examples", {})  # which the workflows begin with
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What ComfyUI says of an empty folder comes first: other tests lay models into it."""
    items.sort(key=lambda item: item.path.name != "test_pack.py")
