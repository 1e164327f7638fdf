"""File names that every system can hold."""

from __future__ import annotations

import re

from ..errors import InputError

_LONGEST = 120  # letters of a name: room for an ending, a number and a temporary name
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that stand for devices on Windows, whatever their ending."""

_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')


def check_portable(path: str) -> None:
    """Checks that a relative path of names, joined by "/", can exist on Windows, too.

    Args:
        path: such as ``family_album`` or ``albums/1950s``.

    Raises:
        InputError: if a name in it is empty, hidden, too long, reserved, or has a letter that
            Windows forbids.
    """
    for name in path.split("/"):
        if found := _FORBIDDEN.search(name):
            problem = f"{found[0]!r} in {name!r}"
        elif not name or name != name.strip() or name.startswith(".") or name.endswith("."):
            problem = f"{name!r}"
        elif len(name) > _LONGEST:
            problem = f"one of {len(name)} letters"
        elif RESERVED.fullmatch(name):
            problem = f"{name!r}, which Windows reserves"
        else:
            continue
        raise InputError(
            f"Names must be such as family_album or albums/1950s, got {problem}. Choose letters, "
            "digits, spaces, dashes and underscores."
        )
