"""OpenCV, which facexlib brings, imported when it is first needed."""

from __future__ import annotations

from typing import Any

from ..errors import MissingPackageError


def load_opencv(what: str) -> Any:
    """The module cv2.

    Args:
        what: what needs it, in the plural: "Colour photos of 16 bits per channel".

    Raises:
        MissingPackageError: if it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            f"{what} need the package OpenCV. Install it: pip install opencv-python-headless"
        ) from error
    return cv2
