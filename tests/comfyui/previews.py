"""The live previews that a node sends to the editor while it works."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from collections.abc import Iterator

import pytest
from PIL import Image

from harness.server import Server

websocket = pytest.importorskip("websocket")

_PREVIEW = 4  # the event of a preview with its metadata, in the binary protocol


@contextlib.contextmanager
def listening(server: Server) -> Iterator[list[tuple[dict, Image.Image]]]:
    """The previews that the editor gets during the block: what they belong to, and the picture."""
    seen: list[tuple[dict, Image.Image]] = []
    socket = websocket.create_connection(f"ws{server.url[4:]}/ws?clientId=test", timeout=60)
    socket.settimeout(0.5)
    socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
    try:
        yield seen
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            while True:
                message = socket.recv()
                if isinstance(message, bytes) and struct.unpack(">I", message[:4])[0] == _PREVIEW:
                    end = 8 + struct.unpack(">I", message[4:8])[0]
                    picture = Image.open(io.BytesIO(message[end:]))
                    seen.append((json.loads(message[8:end]), picture))
    finally:
        socket.close()
