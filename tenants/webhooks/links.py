"""Links in mails that rest nowhere: a mail keeps a placeholder, and the link is made when it is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

#: Makes the address of a link from what the placeholder says and for whom it is; empty: there is none for them.
Maker = Callable[[str, str], str]

#: What stands where no link could be made.
NO_LINK: Final = "(this link is no longer there)"

_PLACEHOLDER: Final = re.compile(r"\[\[link:([a-z-]+):([^\]\s]+)\]\]")
_makers: dict[str, Maker] = {}


def register(kind: str, maker: Maker) -> None:
    """Have links of a kind made by ``maker``; called once, when the process starts."""
    _makers[kind] = maker


def placeholder(kind: str, rest: str) -> str:
    """Give what a mail keeps in place of a link."""
    return f"[[link:{kind}:{rest}]]"


def with_links(text: str, recipient: str) -> str:
    """Give a mail's text with its links, as it is sent to ``recipient``."""

    def made(found: re.Match[str]) -> str:
        maker = _makers.get(found[1])
        return (maker(found[2], recipient) if maker else "") or NO_LINK

    return _PLACEHOLDER.sub(made, text)
