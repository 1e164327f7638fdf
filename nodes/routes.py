"""The server routes that the editor uses beyond running a workflow."""

from __future__ import annotations

import asyncio
from pathlib import Path

import folder_paths
from aiohttp import web
from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

from ..bfr.errors import FaceRestorationError
from .example import write_examples
from .folders import FOLDERS, list_missing


def register_routes() -> None:
    """Adds the routes to ComfyUI's; web/templates.js and web/loaders.js ask for them."""
    PromptServer.instance.routes.post("/face_restoration/examples")(_examples)
    PromptServer.instance.routes.get("/face_restoration/missing")(_missing)


async def _examples(request: web.Request) -> web.Response:
    """Puts the examples that our workflows begin with into ComfyUI's input folder."""
    try:
        folder = Path(folder_paths.get_input_directory())
        written = await asyncio.to_thread(write_examples, folder)
    except (FaceRestorationError, OSError) as error:
        return web.json_response({"error": str(error)}, status=500)
    return web.json_response({"written": written})


async def _missing(request: web.Request) -> web.Response:
    """The published files that are not on this machine: size and licence by file name."""
    entries = [entry for kind in FOLDERS for entry in list_missing(kind)]
    about = {entry.file: {"size": entry.size, "licence": entry.licence} for entry in entries}
    return web.json_response(about)
