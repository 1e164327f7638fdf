"""Every workflow against the recorded nodes, by comfy-cli's own validation, without ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.comfy_cli import run_comfy_cli
from tests.node_schemas import write_known

ROOT = Path(__file__).resolve().parent.parent
EDITOR = sorted((ROOT / "workflows").glob("*.json"))
API = sorted((ROOT / "workflows" / "api").glob("*.json"))
NOTES = {"Note", "MarkdownNote"}  # live in the editor only
MUTED = 2  # the mode of a node that does not run


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known(tmp_path_factory.mktemp("known") / "object_info.json")


def validate(path: Path, known: Path, home: Path) -> dict:
    """comfy-cli's verdict on a workflow."""
    arguments = ("--json", "workflow", "validate", "--input", known, "--workflow", path)
    run = run_comfy_cli(*arguments, home=home, folder=home)
    assert run.stdout, run.output
    return json.loads(run.stdout)


def test_the_gallery_finds_them_by_what_people_look_for():
    """Its search looks at file names only, in words."""
    words = {word for path in EDITOR for word in path.stem.split("_")}
    assert {"face", "restore", "old", "photo", "gfpgan", "upscale", "video", "train"} <= words
    assert min(path.stem for path in EDITOR) == "face_restore_1_old_photo_gfpgan", "the simplest"


def test_readme_names_them():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert not [path.stem for path in EDITOR if f"| {path.stem} |" not in readme]


@pytest.mark.parametrize("path", [*EDITOR, *API], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_workflow_is_valid(path: Path, known: Path, tmp_path: Path):
    verdict = validate(path, known, tmp_path)
    assert verdict["ok"] and verdict["data"]["valid"], verdict["data"]
    assert not verdict["data"]["warnings"], verdict["data"]["warnings"]


@pytest.mark.parametrize(
    ("good", "bad", "code"),
    [
        ('"auto"', '"no such mask"', "unknown_enum_value"),
        ('"BFR_RestorePhoto"', '"BFR_NoSuchNode"', "unknown_class_type"),
    ],
)
def test_validation_sees_mistakes(good: str, bad: str, code: str, known: Path, tmp_path: Path):
    text = (ROOT / "workflows" / "api" / "face_restore_1_old_photo_gfpgan.json").read_text("utf-8")
    broken = tmp_path / "broken.json"
    broken.write_text(text.replace(good, bad), "utf-8")
    verdict = validate(broken, known, tmp_path)
    assert not verdict["ok"]
    assert code in {error["code"] for error in verdict["data"]["errors"]}


@pytest.mark.parametrize("path", EDITOR, ids=lambda path: path.stem)
def test_editor_and_api_twins_are_the_same_graph(path: Path):
    editor = json.loads(path.read_text("utf-8"))
    api = json.loads((path.parent / "api" / path.name).read_text("utf-8"))
    nodes = {
        str(n["id"]): n for n in editor["nodes"] if n["type"] not in NOTES and n["mode"] != MUTED
    }
    assert {key: node["type"] for key, node in nodes.items()} == {
        key: node["class_type"] for key, node in api.items()
    }
    drawn = {
        (str(source), slot, str(target), nodes[str(target)]["inputs"][place]["name"])
        for _, source, slot, target, place, _ in editor["links"]
        if str(target) in nodes
    }
    wired = {
        (value[0], value[1], key, name)
        for key, node in api.items()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    }
    assert drawn == wired


@pytest.mark.parametrize("path", EDITOR, ids=lambda path: path.stem)
def test_gallery_shows_a_picture(path: Path):
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 256
    assert path.with_suffix(".jpg").stat().st_size < 150_000


@pytest.mark.parametrize("path", EDITOR, ids=lambda path: path.stem)
def test_workflow_explains_itself(path: Path):
    editor = json.loads(path.read_text("utf-8"))
    assert any(node["type"] == "MarkdownNote" for node in editor["nodes"])
