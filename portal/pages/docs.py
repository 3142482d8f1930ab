"""Berth's own documentation, as the portal serves it: air-gapped installations have no other."""

from __future__ import annotations

import functools
import posixpath
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

AT: Final = "/docs/"
_INDEX: Final = "README"
_SCROLLS: Final = '<div class="table-scroll" role="region" aria-label="Table" tabindex="0">'
_CODE: Final = '<pre role="region" aria-label="Code" tabindex="0">'


@require_safe
def docs_page(request: HttpRequest, page: str) -> HttpResponse:
    """Show one page, a folder's index by the folder's name."""
    found = pages().get(page.strip("/"))
    if found is None:
        raise Http404
    title, content = rendered(found)
    folder = page.strip("/").rpartition("/")[0]
    above = folder if folder in pages() else ""
    crumbs = (
        [{"label": rendered(pages()[above])[0], "url": f"{AT}{above}"}, {"label": title}] if above else []
    )
    return render(request, "docs/page.html", {"title": title, "content": content, "breadcrumbs": crumbs})


@functools.cache
def pages() -> dict[str, Path]:
    """Give the file of each page by its address below ``/docs/``."""
    folder = Path(settings.BASE_DIR) / "docs"
    found = {}
    for path in sorted(folder.rglob("*.md")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        found[name.removesuffix(f"/{_INDEX}")] = path
    return found


@functools.cache
def rendered(path: Path) -> tuple[str, str]:
    """Give a page's title and the rest of it as HTML. HTML within it is text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(path.read_text("utf-8"))
    title = path.stem
    if tokens and tokens[0].type == "heading_open":
        title = plain(tokens[1])
        tokens = tokens[3:]
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(plain(tokens[place + 1])))
        elif token.type == "table_open":
            token.attrSet("class", "table")
        elif token.type in ("th_open", "td_open") and token.attrs.pop("style", ""):
            token.attrSet("class", "num")  # the pages' policy allows no style of an element's own
        for child in token.children or ():
            if child.type == "link_open":
                _lead(child, path)
            elif child.type == "image":  # pictures are on the repository's pages
                child.type, child.tag, child.children = "text", "", None
    html = markdown.renderer.render(tokens, markdown.options, {})
    # It scrolls by itself where the screen is narrow, by keyboard, too.
    html = html.replace("<table", f"{_SCROLLS}<table").replace("</table>", "</table></div>")
    html = html.replace("<pre>", _CODE)
    return title, html


def plain(inline: Token) -> str:
    """Give the text of a heading."""
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def anchor(heading: str) -> str:
    """Give a heading's anchor as repositories' pages make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def target(href: str, path: Path) -> tuple[str, str] | None:
    """Give page and anchor that a link of a page leads to within the documentation, None where it leads elsewhere."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        return None
    folder = Path(settings.BASE_DIR) / "docs"
    name = path.relative_to(folder).as_posix()
    if parts.path:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(name), parts.path))
    if not name.endswith(".md"):
        return None
    return name.removesuffix(".md").removesuffix(f"/{_INDEX}"), parts.fragment


def _lead(link: Token, path: Path) -> None:
    href = str(link.attrs.get("href", ""))
    found = target(href, path)
    attributes: dict[str, Any] = {}
    if found is not None and found[0] in pages():
        page, fragment = found
        attributes["href"] = f"{AT}{page}{'#' if fragment else ''}{fragment}"
    elif urlsplit(href).scheme in ("https", "http"):
        attributes |= {"href": href, "rel": "noreferrer"}
    else:  # a file of the repository that is no page here
        link.attrs.pop("href", None)
        return
    link.attrs.update(attributes)
