"""The switch that keeps what lies in front of faces, and the network for it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..bfr.faces.occlusion import load_occlusion
from . import memory


def keep_in_front_input() -> io.Boolean.Input:
    """The switch, off by default: in old photographs it may take a moustache for a thing."""
    return io.Boolean.Input(
        "keep_in_front",
        display_name="keep what is in front",
        default=False,
        optional=True,
        tooltip="Hands, microphones, text and other things in front of a face stay as they are in "
        "the photograph. Found by the embedded network, or by an XSeg file from Load Face Parser. "
        "Meant for photographs that have such things: in others, a dark moustache may be left "
        "unrestored.",
    )


def split_parser(parser: Any, keep: bool) -> tuple[Any, memory.ManagedOcclusion | None]:
    """The network on a parser's socket, as a parser or as what finds things in front.

    Args:
        parser: a parser, an XSeg network, or None.
        keep: whether what is in front is kept, with the embedded network if no XSeg is there.

    Returns:
        The parser or None, and the network or None.
    """
    found = parser if isinstance(parser, memory.ManagedOcclusion) else None
    parser = None if found else parser
    if not keep:
        return parser, None
    return parser, found or memory.manage_occlusion(load_occlusion())
