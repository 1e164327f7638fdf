"""ComfyUI's own command line tool, offline and away from the user's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_comfy_cli(
    *arguments: str | Path, home: Path, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Runs ``comfy`` in a folder; it sends nothing and keeps its settings in ``home``."""
    private = {"DO_NOT_TRACK": "1", "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    program = Path(sys.executable).with_name("comfy")
    return subprocess.run(
        [str(program), "--skip-prompt", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **private, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
