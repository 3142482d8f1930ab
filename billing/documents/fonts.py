"""The fonts of documents: embedded, so that a PDF looks the same everywhere."""

from __future__ import annotations

import functools
import unicodedata
from typing import Final

from django.conf import settings
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

PLAIN: Final = "Document"
BOLD: Final = "Document-Bold"
#: What stands for a character that the font does not have.
UNKNOWN: Final = "?"


@functools.cache
def register(plain: str, bold: str) -> None:
    """Make the fonts known to reportlab under :data:`PLAIN` and :data:`BOLD`."""
    pdfmetrics.registerFont(TTFont(PLAIN, plain))
    pdfmetrics.registerFont(TTFont(BOLD, bold))
    pdfmetrics.registerFontFamily(PLAIN, normal=PLAIN, bold=BOLD, italic=PLAIN, boldItalic=BOLD)


class Text:
    """Makes text printable in the document's font and remembers whether something was lost on the way."""

    def __init__(self) -> None:
        register(settings.DOCUMENT_FONT, settings.DOCUMENT_FONT_BOLD)
        glyphs = pdfmetrics.getFont(PLAIN).face.charToGlyph
        self._known = glyphs.keys() & pdfmetrics.getFont(BOLD).face.charToGlyph.keys()
        self.lossy = False

    def __call__(self, text: str) -> str:
        """Give ``text`` in characters that the font has: an accent falls away before a letter does."""
        if all(ord(each) in self._known for each in text):
            return text
        self.lossy = True
        return "".join(self._nearest(each) for each in text)

    def _nearest(self, character: str) -> str:
        if ord(character) in self._known:
            return character
        if unicodedata.category(character) in ("Cc", "Zs", "Zl", "Zp"):
            return " "
        bare = [each for each in unicodedata.normalize("NFKD", character) if not unicodedata.combining(each)]
        return "".join(bare) if bare and all(ord(each) in self._known for each in bare) else UNKNOWN
