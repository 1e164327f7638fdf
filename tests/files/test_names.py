"""Names that every system can hold."""

from __future__ import annotations

import pytest

from bfr.errors import InputError
from bfr.files.names import check_portable


@pytest.mark.parametrize(
    "name", ["mine", "albums/1950s", "Großmutter", "祖母", "a b-c_d.2", "console", "x" * 120]
)
def test_ordinary_names_pass(name: str):
    check_portable(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", "../mine", "/mine", "mine/", "a//b", ".hidden", "ends.", "ends "),
        *("CON", "nul", "com1.txt", "LPT9", "a:b", "a\\b", "what?", "a*", "a|b", '"a"', "<a>"),
        *("a\0b", "a\nb", "x" * 121, "fine/aux"),
    ],
)
def test_names_that_some_system_cannot_hold_are_refused(name: str):
    with pytest.raises(InputError):
        check_portable(name)
