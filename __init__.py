"""Face Restoration Tuner: a ComfyUI node pack that restores faces in damaged photographs.

The nodes are imported inside :func:`comfy_entrypoint` only, so the headless core in ``bfr/``
and the tests can be imported without ComfyUI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import FaceRestorationExtension

WEB_DIRECTORY = "./web"  # what *.js adds to nodes; help pages: docs/NODE_ID.md


async def comfy_entrypoint() -> FaceRestorationExtension:
    """Called by ComfyUI to get the pack's nodes."""
    from .nodes.extension import FaceRestorationExtension

    return FaceRestorationExtension()
