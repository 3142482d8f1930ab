"""What a password may not be, beside what Django's own validators refuse."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.core.exceptions import ValidationError

from tenants.models import User

#: Words that everybody who attacks an installation tries first.
WORDS = (
    "berth",
    "triton",
    "tensorrt",
    "nvidia",
    "portal",
    "console",
    "gateway",
    "operator",
    "tenant",
    "password",
)
FEWEST_OTHERS = 8


class ContextWordsValidator:
    """Refuses a password of which little is left without the product's and the installation's own words.

    ``words`` are the installation's, such as the organisation's name. Case and digits around them do not count.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        longest_first = sorted({*WORDS, *(word.lower() for word in words if word)}, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, longest_first)))

    def validate(self, password: str, user: User | None = None) -> None:
        """Check a password that somebody chose.

        Raises:
            ValidationError: it is made of words that are easy to guess here.
        """
        lower = password.lower()
        left = self._words.sub("", lower)
        if left != lower and len(re.sub(r"[\d\W_]", "", left)) < FEWEST_OTHERS:
            raise ValidationError(
                "This password is made of words that are easy to guess here; choose others.",
                code="password_context_words",
            )

    def get_help_text(self) -> str:
        """Say what is refused, beside the form."""
        return "Your password can’t be made of words such as the product’s name."
