"""Log lines without secrets: what looks like one is masked before a line is written, whoever logged it.

It is the last net. Code does not log secrets, and prompts have no form that a net could catch: they are never logged.
A key that one side made comes by in lines of the other, so that both hold to this one net.
"""

from __future__ import annotations

import logging
import re
from typing import Final

MASK: Final = "***"

_NAMES: Final = (
    r"authorization|x-vault-token|cookie|set-cookie|sessionid|csrftoken|csrfmiddlewaretoken|password\d?|passwd|passphrase|"
    r"(?:[a-z]+[_-])*(?:token|secret|secret_id|api[_-]?key|private[_-]?key|client[_-]?key|pepper|peppers)"
)

#: What a secret looks like, and what is left of it.
_FORMS: Final = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        MASK,
    ),
    # Keys and gateways' tokens of Berth.
    (re.compile(r"\bberth_(?:gateway_)?[0-9A-Za-z_-]{30,}"), f"berth_{MASK}"),
    # Secrets of webhooks, Vault's tokens, JSON web tokens, what Django has signed.
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]{16,}"), f"whsec_{MASK}"),
    (re.compile(r"\bhv[sbr]\.[A-Za-z0-9_-]{16,}"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), MASK),
    (re.compile(r"[\w=-]{8,}:[0-9A-Za-z]{6}:[\w-]{27,}"), MASK),
    (re.compile(r"\b(bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE), rf"\1 {MASK}"),
    # scheme://user:password@host, and scheme://:password@host
    (re.compile(r"([A-Za-z][\w+.-]*://)[^\s/@:]*:[^\s/@]+@"), rf"\1{MASK}@"),
    # Links that let somebody in.
    (
        re.compile(
            r"(/(?:invitations|decide|reset/key|confirm-email)/)(?![0-9a-f]{8}-[0-9a-f]{4}-)[^\s/\"'?]{16,}"
        ),
        rf"\1{MASK}",
    ),
    # name=value in a URL or a form, "name": "value" in JSON, 'name': 'value' in a dict.
    (re.compile(rf"(?<![\w-])((?:{_NAMES})=)[^\s&;,\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
    (
        re.compile(
            rf"(([\"'])(?:{_NAMES})\2\s*:\s*b?)([\"'])(?:\\.|(?!\3).)*(?:\3|\Z)", re.IGNORECASE | re.DOTALL
        ),
        rf"\1\3{MASK}\3",
    ),
)


def masked(text: str) -> str:
    """Give ``text`` with everything masked that looks like a secret."""
    for form, left in _FORMS:
        text = form.sub(left, text)
    return text


class RedactingFormatter(logging.Formatter):
    """Formats a record, traceback included, and masks what came out."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def log_to_stderr(level: str | int, form: str) -> None:
    """Have this process log to its standard error, masked."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
