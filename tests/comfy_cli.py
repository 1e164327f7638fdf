"""ComfyUI's own command line tool, offline and away from the user's settings."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any
from unittest import mock

from typer.testing import CliRunner


def run_comfy_cli(*arguments: str | Path, home: Path, folder: Path) -> Any:
    """Runs ``comfy`` in a folder; it sends nothing and keeps its settings in ``home``.

    In this process: it takes longer to start than to work.

    Returns:
        Its ``exit_code``, ``stdout`` and ``output``, which is all that it printed.
    """
    private = {"DO_NOT_TRACK": "1", "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    with mock.patch.dict(os.environ, private, NO_COLOR="1"), contextlib.chdir(folder):
        from comfy_cli.cmdline import app

        return CliRunner().invoke(app, ["--skip-prompt", *map(str, arguments)])
