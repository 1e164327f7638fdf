"""What the registry's archive holds, and that it works without the rest of the repository."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.archive import ROOT, pack
from tests.forks import together

MEGABYTE = 1_000_000
NEEDED = {
    *("LICENSE", "README.md", "SECURITY.md", "__init__.py", "pyproject.toml", "requirements.txt"),
    *("samples/README.md", "weights/README.md", "weights/manifest.json", "weights/SHA256SUMS"),
}
# Of these folders everything that git tracks is needed: it runs, or ComfyUI serves it.
WHOLE = ("bfr", "nodes", "web", "locales", "workflows", "subgraphs")
FOLDERS = {*WHOLE, "samples", "weights"}
NETWORKS = ("background", "detector", "identity", "niqe", "occlusion", "prior", "restorer")
EMBEDDED = {*NETWORKS, "scratches"}
REPOSITORY = {"bfr", "nodes", "recipes", "harness", "samples", "benchmarks"}


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed once, also where several processes share the tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return pack(tmp_path_factory.mktemp("archive") / "node.zip")
    shared = tmp_path_factory.getbasetemp().parent / "node.zip"
    with FileLock(f"{shared}.lock"):
        return shared if shared.exists() else pack(shared)


@pytest.fixture(scope="module")
def names(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as file:
        return {name for name in file.namelist() if not name.endswith("/")}


def test_it_holds_all_that_runs(names: set[str]):
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    whole = {name for name in tracked.stdout.splitlines() if name.split("/")[0] in WHOLE}
    embedded = {f"weights/{name}.safetensors" for name in EMBEDDED}
    photographs = {name for name in tracked.stdout.splitlines() if name.startswith("samples/")}
    photographs = {
        name for name in photographs if not name.endswith(".py") and "templates" not in name
    }
    assert photographs and not (NEEDED | whole | embedded | photographs) - names


def test_it_holds_nothing_else(names: set[str]):
    """No tests, measurements, recipes, pins or settings of development; no scripts of install."""
    assert {name.split("/")[0] for name in names if "/" in name} <= FOLDERS
    assert {name for name in names if "/" not in name} <= NEEDED | {"CHANGELOG.md"}
    assert not [name for name in names if name.startswith("samples/") and name.endswith(".py")]
    hidden = [name for name in names if any(part.startswith(".") for part in name.split("/"))]
    assert not hidden and not [name for name in names if name.endswith("install.py")]


def test_it_stays_small(archive: Path):
    """39 MB in November 2026; nearly all of it is the weights."""
    assert archive.stat().st_size < 60 * MEGABYTE
    with zipfile.ZipFile(archive) as file:
        rest = [item for item in file.infolist() if not item.filename.endswith(".safetensors")]
    assert sum(item.file_size for item in rest) < 6 * MEGABYTE


def test_no_pip_at_run_time_and_no_code_from_text(archive: Path):
    """The registry refuses packs that install packages or run text."""
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            if name.endswith(".py"):
                text = file.read(name).decode()
                calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
                called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
                assert not called & {"eval", "exec", "__import__"}, name
                assert not re.search(r"subprocess|os\.system|pip\.main", text), name


def test_nodes_are_found_without_running_them():
    """ComfyUI-Manager reads from the source which nodes a pack has, to offer it for a workflow.

    It looks for ``class …(io.ComfyNode)`` whose ``define_schema`` names its ``node_id``.
    """
    found = set()
    for path in (ROOT / "nodes").glob("*.py"):
        for item in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(item, ast.ClassDef) and "io.ComfyNode" in map(ast.unparse, item.bases):
                (define,) = (m for m in item.body if getattr(m, "name", "") == "define_schema")
                found |= {
                    keyword.value.value
                    for call in ast.walk(define)
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "io.Schema"
                    for keyword in call.keywords
                    if keyword.arg == "node_id" and isinstance(keyword.value, ast.Constant)
                }
    recorded = json.loads((ROOT / "tests" / "golden" / "node_schemas.json").read_text("utf-8"))
    assert found == set(recorded)


def run_from(folder: Path, words: list[str]) -> None:
    """Runs the command of the pack in a folder, in a process that loads nothing of this one's."""
    for name in [*sys.modules]:
        if name.split(".")[0] in REPOSITORY:
            del sys.modules[name]
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(ROOT)))]
    os.chdir(folder)
    sys.argv = ["bfr", *words]
    try:
        runpy.run_module("bfr", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] in REPOSITORY]
    assert ours and all(str(module.__file__).startswith(str(folder)) for module in ours)


def test_the_command_runs_from_it(archive: Path, tmp_path: Path):
    """Elsewhere, with nothing of the repository but the archive, and with its own weights.

    The face of a shipped photograph is found and restored, and the rest is left alone.
    """
    folder, photo, out = tmp_path / "pack", tmp_path / "photo.png", tmp_path / "out"
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    with Image.open(folder / "samples" / "grace_hopper.jpg") as image:
        image.save(photo)
        before = np.asarray(image)
    words = ["restore", photo, "-o", out, "--device", "cpu", "--report", tmp_path / "report.json"]
    together(1, run_from, folder, [*map(str, words)])
    (entry,) = json.loads((tmp_path / "report.json").read_text("utf-8"))["images"]
    (face,) = entry["faces"]
    x0, y0, x1, y1 = face["box"]
    assert x0 < 200 < x1 and y0 < 190 < y1, "the face is about the middle of the picture"
    assert all(x0 < x < x1 and y0 < y < y1 for x, y in face["landmarks"])
    with Image.open(out / "photo.png") as image:
        after = np.asarray(image)
    assert after.shape == before.shape
    changed = (after != before).any(-1)
    assert changed[round(y0) : round(y1), round(x0) : round(x1)].mean() > 0.5
    assert not changed[:20].any() and not changed[:, :20].any(), "only the face changes"
