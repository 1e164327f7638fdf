"""Inputs that choose a weights file, and the file that was chosen."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from .folders import FOLDERS, get_file, list_names

EMBEDDED = "embedded default"


def name_input(id: str, display_name: str, kind: str, embedded: bool) -> io.Combo.Input:
    options = [EMBEDDED] * embedded + list_names(kind)
    default = "comes with the pack and needs no file. " if embedded else ""
    return io.Combo.Input(
        id,
        display_name=display_name,
        options=options,
        default=options[0] if options else None,
        tooltip=f"The weights file. {'The ' + EMBEDDED + ' ' + default if embedded else ''}"
        f"Put files into models/{' or models/'.join(FOLDERS[kind])}. Published files that "
        "are not on this machine are listed too: turn on download to get one.",
    )


def chosen_file(kind: str, name: str, download: bool) -> Path | None:
    """The weights file of a choice of `name_input`; None for the embedded default."""
    return None if name == EMBEDDED else get_file(kind, name, download)


def download_input() -> io.Boolean.Input:
    return io.Boolean.Input(
        "download",
        display_name="download",
        default=False,
        tooltip="Download the chosen file from its publisher if it is not on this machine, and "
        "verify its sha256. Off: nothing is ever downloaded. Mind the file's licence.",
    )
