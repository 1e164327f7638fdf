"""What the editor asks the server for beyond running a workflow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

from ..bfr.errors import FaceRestorationError
from .example import write_examples


def register_routes() -> None:
    """Adds the routes to ComfyUI's; web/templates.js asks for them."""
    PromptServer.instance.routes.post("/face_restoration/examples")(_examples)


async def _examples(request: web.Request) -> web.Response:
    """Puts the examples that our workflows begin with into ComfyUI's input folder."""
    try:
        folder = Path(folder_paths.get_input_directory())
        written = await asyncio.to_thread(write_examples, folder)
    except (FaceRestorationError, OSError) as error:
        return web.json_response({"error": str(error)}, status=500)
    return web.json_response({"written": written})
