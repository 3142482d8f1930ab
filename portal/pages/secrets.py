"""Fields for what must never come back in a page: pasted credentials, and files of them."""

from __future__ import annotations

import re
from typing import Any, Final

from django import forms

PASTE_AGAIN: Final = "Paste it again: a secret is never written back into the page."
CHOOSE_AGAIN: Final = "Choose the file again: a browser never sends it twice by itself."
MOST_BYTES: Final = 512 * 1024

_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


class SecretArea(forms.Textarea):
    """A text area that always comes back empty."""

    def __init__(self, *, rows: int = 4) -> None:
        super().__init__(
            attrs={
                "rows": rows, "class": "mono", "autocomplete": "off", "autocapitalize": "none",
                "spellcheck": "false",
            }
        )  # fmt: skip

    def format_value(self, value: Any) -> str:
        return ""


class SecretForm(forms.Form):
    """A form with secrets among its fields; once cleaned, :meth:`forget` says of each to give it again."""

    def secret_names(self) -> list[str]:
        """Name the fields that hold secrets."""
        kinds = (SecretArea, forms.FileInput)
        return [name for name, field in self.fields.items() if isinstance(field.widget, kinds)]

    def forget(self, *, as_error: bool) -> None:
        """Tell beside every secret that was given that it must be given again."""
        for name in self.secret_names():
            given = self.files.get(name) or self.data.get(name)
            if not given:
                continue
            again = CHOOSE_AGAIN if name in self.files else PASTE_AGAIN
            if as_error:
                self.add_error(name, again)
            else:
                self[name].help_text = again


class VariablesField(forms.CharField):
    """Lines of ``NAME=value``, as a mapping."""

    widget = SecretArea

    def to_python(self, value: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, line in enumerate((value or "").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _LINE.fullmatch(text)
            if match is None:
                raise forms.ValidationError(f"Line {number} is not NAME=value.")
            name, plain = match.groups()
            if name in found:
                raise forms.ValidationError(f"{name} is there twice.")
            found[name] = plain.strip().strip("\"'")
        return found


class VariablesForm(SecretForm):
    """Credentials for fetching a model's weights."""

    values = VariablesField(
        label="Credentials",
        help_text="One NAME=value a line, for instance HF_TOKEN=hf_… or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY. The job that fetches the weights gets them as environment variables.",
    )


def text_of(upload: Any) -> str:
    """Read an uploaded file as text.

    Raises:
        ValidationError: it is too long, or no UTF-8 text.
    """
    if upload.size > MOST_BYTES:
        raise forms.ValidationError(f"The file is longer than {MOST_BYTES // 1024} KiB.")
    try:
        return upload.read().decode()
    except UnicodeDecodeError as error:
        raise forms.ValidationError("The file is no text in UTF-8.") from error
