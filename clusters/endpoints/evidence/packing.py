"""The pack: the document as canonical JSON and as PDF, each with its signature, in one zip."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from clusters.endpoints.evidence.gather import FORMAT
from clusters.endpoints.evidence.pdf import evidence_pdf
from tenants import signing
from tenants.errors import Invalid

DOCUMENT: Final = "evidence.json"
PRINT: Final = "evidence.pdf"
SIGNATURE: Final = ".sig"
NAMES: Final = (DOCUMENT, DOCUMENT + SIGNATURE, PRINT, PRINT + SIGNATURE)

_NO_TIME: Final = (1980, 1, 1, 0, 0, 0)


def pack(document: Mapping[str, Any]) -> bytes:
    """Sign a document and its print, and give the zip.

    Raises:
        SigningNotSetUp: there is no key.
    """
    signed = {**document, "signed_with": str(signing.newest())}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, content in ((DOCUMENT, canonical(signed)), (PRINT, evidence_pdf(signed))):
            _, signature = signing.sign(content)
            for member, data in ((name, content), (name + SIGNATURE, signature)):
                zipped.writestr(zipfile.ZipInfo(member, _NO_TIME), data)
    return out.getvalue()


def unpack(content: bytes, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """Give the document of a pack whose files are all as they were signed; ``keys`` are by number.

    Raises:
        Invalid: something in it is not, or nobody knows its key.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as zipped:
            if sorted(zipped.namelist()) != sorted(NAMES):
                raise Invalid(f"This is no evidence: it should hold {', '.join(NAMES)} and nothing else.")
            files = {name: zipped.read(name) for name in NAMES}
        document = json.loads(files[DOCUMENT])
        number = document["signed_with"]
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, NotImplementedError, EOFError) as error:
        raise Invalid(f"This is no evidence, or it is damaged: {error}") from error
    if document.get("format") != FORMAT:
        raise Invalid(f"This is no evidence of the form {FORMAT}.")
    key = keys.get(number)
    if key is None:
        raise Invalid(f"It was signed with key {number}, which is not among those given.")
    for name in (DOCUMENT, PRINT):
        if not signing.verifies(key, files[name], files[name + SIGNATURE]):
            raise Invalid(f"{name} is not what was signed.")
    return document


def canonical(document: Mapping[str, Any]) -> bytes:
    """Give the bytes that are signed: keys sorted, no blanks, every character as it is."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
