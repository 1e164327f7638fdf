"""TensorBoard's copy of a run's log."""

from __future__ import annotations

from typing import Any

from ..errors import MissingPackageError
from .run_folder import RunFolder


def open_board(folder: RunFolder, step: int) -> Any:
    """TensorBoard's writer, which drops what was logged after a step."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError(
            "TensorBoard needs the package tensorboard. Install it: pip install tensorboard. "
            "Without it, the figures are in log.jsonl and loss.png."
        ) from error
    return SummaryWriter(str(folder.folder / "tensorboard"), purge_step=step + 1)
