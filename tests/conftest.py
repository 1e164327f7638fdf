"""What the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder, which is the pack's."""
    return Path(__file__).resolve().parent.parent
