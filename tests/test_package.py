"""The repository as a package: dependencies, files that belong in it and none that do not."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from harness import PACK_NAME
from harness.stand_in import comfyui
from tests.forks import together

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MEGABYTE = 1_000_000
# In one of its several builds, which exclude each other: declaring one would add a second.
BROUGHT_BY = {"cv2": "facexlib"}
COMFYUI = {"aiohttp", "comfy", "comfy_api", "comfy_execution", "folder_paths", "server"}
NEED_COMFYUI = {("harness", "probe"), ("tests", "browser"), ("tests", "comfyui")}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".js", ".yaml", ".cfg", ".sh", ""}
# The name a package is imported by, where it is not the one it is installed by.
IMPORTED_AS = {
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "scikit-image": "skimage",
    "universal-pathlib": "upath",
    "opencv-python-headless": "cv2",
    "pytest-cov": "pytest_cov",
}


def tracked() -> list[Path]:
    """The files of the repository; of a copy without git, everything that is no build output."""
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode == 0:
        paths = [ROOT / name for name in run.stdout.split("\0") if name]
        return [path for path in paths if path.exists()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not {".venv", "__pycache__", "output"} & set(path.parts)
    ]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower()


def test_requirements_mirror_the_project():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines == PROJECT["project"]["dependencies"]


def test_what_each_dependency_is_for_is_said():
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Dependencies")[1]
    rows = [row.split("|")[1] for row in table.split("\n## ")[0].splitlines() if row[:1] == "|"]
    told = {name.strip().lower() for row in rows for name in row.split(",")}
    assert not {name_of(each) for each in PROJECT["project"]["dependencies"]} - told


def test_users_keep_their_own_torch_numpy_and_pillow():
    for requirement in PROJECT["project"]["dependencies"]:
        assert "==" not in requirement and "<" not in requirement
        if name_of(requirement) in {"torch", "torchvision", "numpy", "pillow"}:
            assert requirement.isalpha(), f"{requirement} must stay unpinned"


def test_development_constraints_pin_what_we_ask_for():
    lines = (ROOT / "constraints-dev.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name_of(line) for line in lines if not line.startswith("#")}
    groups = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *groups["codeformer"], *groups["dev"]]
    assert {name_of(requirement).replace("_", "-") for requirement in wanted} <= pinned
    assert all("==" in line for line in lines if not line.startswith("#"))


def test_registry_entry():
    comfy = PROJECT["tool"]["comfy"]
    assert comfy["DisplayName"] == "Face Restoration Tuner"
    assert comfy["PublisherId"]
    assert {"Repository", "Documentation", "Bug Tracker"} <= PROJECT["project"]["urls"].keys()
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert "comfyui" not in PROJECT["project"]["name"].lower()


@pytest.mark.parametrize(
    ("key", "proportion", "most"), [("Icon", 1, 400), ("Banner", 21 / 9, 2100)]
)
def test_the_registry_shows_pictures_of_the_repository(key: str, proportion: float, most: int):
    owner = PROJECT["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    start = f"https://raw.githubusercontent.com/{owner}/main/"
    address = PROJECT["tool"]["comfy"][key]
    assert address.startswith(start)
    with Image.open(ROOT / address.removeprefix(start)) as picture:
        assert picture.width / picture.height == pytest.approx(proportion, rel=0.01)
        assert picture.width <= most


def imported_by(requirements: Iterable[str]) -> set[str]:
    """The names that packages are imported by."""
    names = map(name_of, requirements)
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def imports(path: Path) -> tuple[set[str], set[str]]:
    """The packages that a file imports when it is imported itself, and all that it ever imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for part in ast.walk(tree)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING")
        for node in ast.walk(part)
    }
    at_once, ever = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found = {node.module.split(".")[0]}
        else:
            continue
        ever |= found
        at_once |= found if id(node) not in inside else set()
    return at_once, ever


def test_every_import_is_declared():
    """For users: at once only what every user has, in functions also what an extra brings."""
    groups = PROJECT["project"]["optional-dependencies"]
    required = imported_by(PROJECT["project"]["dependencies"])
    required |= {name for name, bringer in BROUGHT_BY.items() if bringer in required}
    extras = imported_by(chain(*(items for name, items in groups.items() if name != "dev")))
    ours = {"bfr", "nodes", "recipes", "harness", "samples", "benchmarks", "tests"}
    known = ours | set(sys.stdlib_module_names)
    missing: dict[str, set[str]] = {}
    for path in tracked():
        relative = path.relative_to(ROOT)
        needs_comfyui = relative.parts[:2] in NEED_COMFYUI
        if path.suffix != ".py" or needs_comfyui:
            continue
        at_once, ever = imports(path)
        if relative.parts[0] in {"bfr", "nodes", "__init__.py"}:
            found = ((at_once - required) | (ever - required - extras)) - known
            if relative.parts[0] == "nodes":
                found -= COMFYUI
        else:
            found = ever - required - extras - imported_by(groups["dev"]) - known
        if found:
            missing[str(relative)] = found
    assert not missing


def test_no_legacy_node_mappings():
    word = "NODE_CLASS_" + "MAPPINGS"
    holders = [p for p in tracked() if p.suffix == ".py" and word in p.read_text(encoding="utf-8")]
    assert not holders


def test_no_path_of_one_machine():
    """Nothing tracked names a folder that exists on the author's machine only."""
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/[\w.]")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in TEXT and path.stat().st_size < MEGABYTE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found


LIMITS = {"detector": 2, "restorer": 12, "prior": 30, "identity": 12, "occlusion": 3}  # megabytes


@pytest.mark.parametrize(
    "path", sorted((ROOT / "weights").glob("*.safetensors")), ids=lambda p: p.stem
)
def test_embedded_weights_stay_small(path: Path):
    assert path.stat().st_size <= LIMITS.get(path.stem, 4) * MEGABYTE


def test_no_other_file_is_large():
    large = [p for p in tracked() if p.stat().st_size > MEGABYTE and p.suffix != ".safetensors"]
    assert not large


def test_no_folder_hides_the_workflows():
    """ComfyUI serves templates from the first of these folders that a pack has."""
    first = ("example_workflows", "example", "examples", "workflow", "workflows")
    assert [name for name in first if (ROOT / name).exists()] == ["workflows"]


# What ComfyUI has imported by then, or torch has.
PRESENT = {"torch", "torchvision", "numpy", "safetensors", "kornia", "spandrel", "einops"}


def import_the_pack(told: Path, packages: set[str]) -> None:
    """Imports it as ComfyUI does; writes down the packages that come with it, and other work."""
    sys.dont_write_bytecode = True
    for name in [*sys.modules]:
        if name.split(".")[0] in packages - PRESENT:
            del sys.modules[name]
    for name in sorted(PRESENT):
        importlib.import_module(name)
    works: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in ("socket.connect", "subprocess.Popen", "os.mkdir", "os.system"):
            works.append(f"{event} {arguments}")

    with comfyui(Path("nowhere")) as load:
        before = set(sys.modules)
        sys.addaudithook(watch)
        load("extension")
        imported, done = set(sys.modules) - before, list(works)
    told.write_text(json.dumps([sorted({name.split(".")[0] for name in imported}), done]))


def test_import_takes_no_more_than_comfyui_has_and_does_no_work(tmp_path: Path):
    """Whatever else is installed is imported when it is needed; nothing is written or fetched."""
    groups = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *chain(*groups)]
    packages, told = imported_by(wanted), tmp_path / "told.json"
    together(1, import_the_pack, told, packages)
    imported, done = json.loads(told.read_text())
    assert PACK_NAME in imported
    assert not set(imported) & (packages - {"PIL"}), "import them where they are used"
    assert not done, "work at import"


def test_licence_is_apache():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
    assert PROJECT["project"]["license"] == {"file": "LICENSE"}


def test_root_is_a_package_that_imports_without_comfyui():
    """ComfyUI imports the folder under its own name, dashes included; pytest imports it too."""
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('face-restoration-tuner', '__init__.py',"
        " submodule_search_locations=['.'])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(callable(module.comfy_entrypoint), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "False"], run.stderr
