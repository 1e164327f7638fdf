"""The archive that ComfyUI's registry gets, made by its own tool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pack(target: Path) -> Path:
    """What ``comfy node pack`` puts into its archive, written to a file of that name.

    It takes the files that git tracks, so a copy without git cannot make it: the test is skipped.
    """
    if subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("no git repository: the archive holds the files that git tracks")
    code = "import sys; from comfy_cli.file_utils import zip_files; zip_files(sys.argv[1])"
    command = [sys.executable, "-c", code, str(target)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return target
