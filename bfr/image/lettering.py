"""Lettering of sheets: text that wraps, and is cut where it is too long.

The font is Pillow's built-in one, which knows little beyond ASCII: accents are dropped and a few
signs replaced (é → e, × → x, – → -); letters of other scripts show as empty boxes.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

INK, FAINT = "#ececec", "#a8a8a8"
"""Colours on dark grey: of the first line, and of what follows a line break."""

_LINES = 3  # the most lines of a text
_SIGNS = str.maketrans({"×": "x", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "\t": " "})

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Text:
    """Lines with their colours, in one font."""

    lines: list[tuple[str, str]]
    font: Font

    @property
    def width(self) -> int:
        return max(width_of(line, self.font) for line, _ in self.lines)

    @property
    def height(self) -> int:
        return len(self.lines) * line_height(self.font)

    def write(self, pen: ImageDraw.ImageDraw, x: float, y: float, anchor: str) -> None:
        """Writes from ``y`` downwards; ``x`` is the middle ("m") or the right end ("r")."""
        for line, colour in self.lines:
            pen.text((x, y), line, colour, self.font, f"{anchor}a")
            y += line_height(self.font)


def drawable(text: str) -> str:
    """The text in the letters that the built-in font has, as far as possible."""
    parts = unicodedata.normalize("NFKD", text.translate(_SIGNS))
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def wrapped(text: str, font: Font, width: int) -> Text:
    """A text wrapped at its spaces, though not at non-breaking ones."""
    lines: list[tuple[str, str]] = []
    for paragraph in text.split("\n"):
        colour = FAINT if lines else INK
        line = ""
        for word in map(drawable, paragraph.split(" ")):
            longer = f"{line} {word}" if line else word
            if line and width_of(longer.rstrip(), font) > width:
                lines.append((line.rstrip(), colour))
                longer = word
            line = longer
        lines.append((line.rstrip(), colour))
    if len(lines) > _LINES:
        last, colour = lines[_LINES - 1]
        lines[_LINES - 1 :] = [(last + "…", colour)]
    return Text([(cut_to_width(line, font, width), colour) for line, colour in lines], font)


def cut_to_width(line: str, font: Font, width: int) -> str:
    """Cuts a line to what fits, with "…": for words the beginning, for a name both ends."""
    kept, cut = len(line), line
    while width_of(cut, font) > width and kept > 0:
        kept -= 1
        end = 0 if " " in line else kept // 2
        cut = f"{line[: kept - end].rstrip(' …')}…{line[len(line) - end :]}"
    return cut


def width_of(line: str, font: Font) -> int:
    return math.ceil(font.getlength(line))


def line_height(font: Font) -> int:
    """The distance of two lines in pixels."""
    return round(1.1 * font.getbbox("Apgj|")[3])
