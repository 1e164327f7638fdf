"""The core's layers: what may import what, and what no module of the core may do."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.forks import together

# A folder imports only from itself and from those to its left.
FOLDERS: Sequence[str] = (
    "image runtime files damage faces restore quality prior pairs finetune cluster cli"
).split()
BELOW_ALL = ("choices", "errors", "records")
# What each folder of the repository may import of the others. ``nodes`` does so relatively.
AROUND: Mapping[str, set[str]] = {
    "bfr": set(),
    "nodes": set(),
    "recipes": {"bfr"},
    "harness": set(),
    "samples": {"bfr", "harness"},
    "benchmarks": {"bfr", "samples"},
}
OURS = (*AROUND, "tests")
ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "bfr"
MODULES = sorted(path for path in CORE.glob("**/*.py") if path.name != "__init__.py")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(CORE).with_suffix("").parts)


def inner_imports(path: Path) -> Iterator[str]:
    """The modules of the core that a module imports anywhere in its file, relatively."""
    package = path.relative_to(CORE).parent.parts
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= len(package) + 1, f"line {node.lineno} leaves the core"
            base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            stem = ".".join(filter(None, base))
            if (CORE / stem.replace(".", "/")).is_dir():
                yield from (f"{stem}.{alias.name}".strip(".") for alias in node.names)
            else:
                yield stem


def calls(tree: ast.Module) -> set[str]:
    """Names of the functions called by plain name in a file."""
    return {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_every_module_is_in_a_folder_of_the_order():
    places = {path.relative_to(CORE).parts[0].removesuffix(".py") for path in MODULES}
    assert places == {*FOLDERS, *BELOW_ALL, "__main__"}


def too_far(path: Path) -> set[str]:
    """What a module imports from the right of its own folder."""
    folder = path.relative_to(CORE).parts[0].removesuffix(".py")
    allowed = {*BELOW_ALL}
    if folder in FOLDERS:
        allowed |= set(FOLDERS[: FOLDERS.index(folder) + 1])
    elif folder == "__main__":
        allowed.add("cli")
    return {name for name in inner_imports(path) if name.split(".")[0] not in allowed}


def test_tests_lie_where_the_core_does():
    """Each is named after a module, with more behind it where a module has several."""
    modules = {path.relative_to(CORE).with_suffix("").as_posix() for path in MODULES}
    tests = [path for folder in FOLDERS for path in (ROOT / "tests" / folder).glob("test_*")]
    assert len(tests) > 90
    for path in tests:
        words = path.stem.split("_")[1:]
        names = {"_".join(words[: end + 1]) for end in range(len(words))}
        assert modules & {f"{path.parent.name}/{name}" for name in names}, path


def test_imports_point_left():
    assert not {name_of(path): found for path in MODULES if (found := too_far(path))}


def outer_imports(path: Path) -> set[str]:
    """The folders of the repository that a file imports absolutely, anywhere in it."""
    names = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[0] for name in names} & {*OURS}


def test_folders_import_what_they_may_and_none_but_tests_import_tests():
    found = {
        path.relative_to(ROOT).as_posix(): too_much
        for folder, allowed in AROUND.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (too_much := outer_imports(path) - allowed - {folder})
    }
    assert not found


def test_the_core_imports_itself_relatively():
    for path in MODULES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] != "bfr", name_of(path)
            elif isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
                assert "bfr" not in names, name_of(path)


def test_there_is_no_circle_of_imports():
    known = {name_of(path): set(inner_imports(path)) for path in MODULES}
    while free := {name for name, needed in known.items() if not needed & known.keys()}:
        known = {name: needed for name, needed in known.items() if name not in free}
    assert not known, f"these import each other in a circle: {sorted(known)}"


def test_core_does_not_run_code_or_print():
    for path in MODULES:
        forbidden = {"eval", "exec", "__import__", "compile"}
        if path.parent.name != "cli":
            forbidden.add("print")
        assert not calls(parse(path)) & forbidden, name_of(path)


def private_names(path: Path) -> Iterator[str]:
    """Names with an underscore that a file takes from modules of ours, and the lines."""
    tree, modules = parse(path), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_ours(node):
            modules |= {alias.asname or alias.name for alias in node.names}
            yield from (f"{a.name}, line {node.lineno}" for a in node.names if is_private(a.name))
        elif (
            isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        ):
            yield f"{ast.unparse(node)}, line {node.lineno}"


def is_ours(node: ast.ImportFrom) -> bool:
    return bool(node.level) or (node.module or "").split(".")[0] in OURS


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_module_takes_the_private_names_of_another():
    """Tests neither."""
    files = [path for folder in OURS for path in sorted((ROOT / folder).glob("**/*.py"))]
    found = {path.relative_to(ROOT).as_posix(): list(private_names(path)) for path in files}
    assert len(files) > 300
    assert not {path: names for path, names in found.items() if names}


def test_the_docstring_states_this_order():
    text = ast.get_docstring(parse(CORE / "__init__.py")) or ""
    listed = text.split("::", 1)[1].split("\n\n", 2)[1]
    assert listed.replace("->", " ").replace(",", " ").split() == [*BELOW_ALL, *FOLDERS]


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


COMFYUI = frozenset(
    "comfy comfy_api comfy_execution comfy_extras folder_paths nodes server execution "
    "latent_preview node_helpers".split()
)
HEAVY = {"facexlib", "diffusers", "cv2", "numba", "matplotlib"}


class NoComfyUI:
    """Finds none of ComfyUI's modules."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in COMFYUI:
            raise ImportError(f"{name} is ComfyUI's")


def import_the_core(told: Path) -> None:
    """Imports all of it anew and writes down the packages that are there then."""
    for name in [*sys.modules]:
        if name.split(".")[0] in {"bfr", *HEAVY, *COMFYUI}:
            del sys.modules[name]
    sys.meta_path.insert(0, NoComfyUI())  # pyright: ignore[reportArgumentType]
    for path in MODULES:
        if path.stem != "__main__":
            importlib.import_module(f"bfr.{name_of(path)}")
    told.write_text(" ".join({name.split(".")[0] for name in sys.modules}))


def test_core_imports_without_comfyui_and_quickly(tmp_path: Path):
    told = tmp_path / "told"
    together(1, import_the_core, told)
    imported = set(told.read_text().split())
    assert "bfr" in imported
    assert not imported & HEAVY, "they are imported by the functions that need them"


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
