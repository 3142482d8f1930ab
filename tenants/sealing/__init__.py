"""Secrets at rest: each value under a data key of its own, which a key outside the database wraps.

``seal`` and ``unseal`` are the whole door for callers; a column that holds what they give is a
:class:`SealedBinaryField`, and by that rotation finds it.
"""

from tenants.sealing.envelope import seal, unseal
from tenants.sealing.errors import CannotOpen, KeyGone, KeysAway
from tenants.sealing.fields import SealedBinaryField, SealedField

__all__ = ["CannotOpen", "KeyGone", "KeysAway", "SealedBinaryField", "SealedField", "seal", "unseal"]
