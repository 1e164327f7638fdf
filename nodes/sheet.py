"""Sheets that nodes show in the editor, with cells that web/ makes clickable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import ui

from ..bfr.image.sheets import Sheet
from .convert import to_comfy


def show(sheet: Sheet, cells: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """The part of a node's ``ui`` for web/sheet.js: a temporary picture, and its cells.

    Args:
        sheet: what to show.
        cells: what is known of each cell, as JSON; ``box`` is added.
        more: what is known of the whole sheet, as JSON.
    """
    (picture,) = ui.PreviewImage(to_comfy(sheet.picture)).values
    height, width = sheet.picture.shape[-2:]
    boxed = [{**cell, "box": box} for cell, box in zip(cells, sheet.boxes, strict=True)]
    shown = {"picture": picture, "width": width, "height": height, "cells": boxed, **more}
    return {"bfr_sheet": [shown]}
