"""The text the language model learns from: the pages of ``docs/guide``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

GUIDE: Final = Path(__file__).resolve().parents[3] / "docs" / "guide"


def read_guide(folder: Path = GUIDE) -> list[str]:
    """Give one text per section: its heading, an empty line, its paragraphs on one line each.

    Raises:
        FileNotFoundError: the folder holds no page.
    """
    pages = sorted(folder.glob("*.md"))
    if not pages:
        raise FileNotFoundError(f"no guide pages in {folder}")
    return [text for page in pages for text in sections(page.read_text(encoding="utf-8"))]


def sections(page: str) -> list[str]:
    """Cut a Markdown page at its ``##`` headings; what stands before the first is left out."""
    texts = []
    for section in f"\n{page}".split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        paragraphs = [" ".join(block.split()) for block in body.split("\n\n") if block.strip()]
        texts.append("\n\n".join([heading.strip(), *paragraphs]))
    return texts
