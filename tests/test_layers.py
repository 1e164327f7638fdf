"""The core's layers: what may import what, and what no module of the core may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# The order of reading: a module imports only from those to its left.
ORDER: Sequence[str] = (
    "records errors images geometry weights crops retinaface detect select align lowpass colour "
    "memory restorer unet diffusion layouts diffusers_prior prior consistency solvers noise "
    "sample parsing paste camera prints degrade evaluate niqe perceptual sheets plots scores "
    "measure batch share progress pairs ledger collect guesses targets review recipes "
    "discriminator objectives checkpointing trainset keep runs validate learner finetune pipeline "
    "track steady video frames models options tuning measuring training cli __main__"
).split()
CORE = Path(__file__).resolve().parent.parent / "bfr"
MODULES = sorted(path for path in CORE.glob("**/*.py") if path.name != "__init__.py")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.Module) -> tuple[set[str], set[str]]:
    """The modules of the core, and the other top-level packages, imported anywhere in a file."""
    inside, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"line {node.lineno} imports from outside the package"
            if node.module:
                inside.add(node.module.split(".")[0])
            else:
                inside.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            outside.update(alias.name.split(".")[0] for alias in node.names)
    return inside, outside


def calls(tree: ast.Module) -> set[str]:
    """Names of the functions called by plain name in a file."""
    return {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_every_module_has_its_place():
    assert {path.stem for path in MODULES} <= set(ORDER)
    assert all(path.parent == CORE for path in MODULES), "the core is flat: one file a stage"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_left(path: Path):
    inside, outside = imports(parse(path))
    assert "bfr" not in outside, "the core imports itself relatively"
    too_far = inside - set(ORDER[: ORDER.index(path.stem)])
    assert not too_far, f"{path.stem} imports from its right: {sorted(too_far)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_core_does_not_run_code_or_print(path: Path):
    forbidden = {"eval", "exec", "__import__", "compile"}
    if path.stem not in ("models", "cli"):
        forbidden.add("print")
    assert not calls(parse(path)) & forbidden


def test_the_docstring_tells_this_order():
    text = ast.get_docstring(parse(CORE / "__init__.py")) or ""
    listed = text.split("::", 1)[1].split("\n\n", 2)[1]
    assert [name.strip() for name in listed.replace("->", ",").split(",")] == ORDER[:-1]


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


IMPORT_ALONE = """
import importlib, pathlib, sys

class NoComfyUI:
    roots = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes",
             "server", "execution", "latent_preview", "node_helpers"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.roots:
            raise ImportError(f"{name} is ComfyUI's")

sys.meta_path.insert(0, NoComfyUI())
for path in sorted(pathlib.Path("bfr").glob("*.py")):
    if path.stem != "__main__":
        importlib.import_module("bfr" if path.stem == "__init__" else f"bfr.{path.stem}")
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_core_imports_without_comfyui_and_quickly(root: Path):
    run = run_python(IMPORT_ALONE, root)
    assert run.returncode == 0, run.stderr
    # Heavy packages are imported by the functions that need them.
    assert not set(run.stdout.split()) & {"facexlib", "diffusers", "cv2", "numba", "matplotlib"}


def test_help_does_not_wait_for_torch(root: Path):
    """``--help`` answers at once: it imports no network library."""
    code = (
        "import sys, runpy; sys.argv = ['bfr', '--help']\n"
        "try: runpy.run_module('bfr', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    run = run_python(code, root)
    assert run.stderr.split()[-2:] == ["0", "False"], run.stderr
