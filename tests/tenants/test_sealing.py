"""Secrets at rest open under the sealing keys alone: not with what gateways hold."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured

from tenants.sealing import seal, unseal

ROW = "clusters_cluster:1:credentials"


def test_what_is_sealed_opens_for_its_own_row_only():
    sealed = seal(b"token", bound_to=ROW)
    assert b"token" not in sealed
    assert unseal(sealed, bound_to=ROW) == b"token"
    with pytest.raises(InvalidTag):
        unseal(sealed, bound_to="clusters_cluster:2:credentials")


def test_the_peppers_that_gateways_hold_open_nothing(settings):
    sealed = seal(b"token", bound_to=ROW)
    settings.SEALING_KEYS = settings.KEY_PEPPERS
    with pytest.raises(InvalidTag):
        unseal(sealed, bound_to=ROW)


def test_the_newest_key_seals_and_older_ones_open(settings):
    older = seal(b"token", bound_to=ROW)
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: b"2" * 32}
    newer = seal(b"token", bound_to=ROW)
    assert unseal(older, bound_to=ROW) == b"token"
    del settings.SEALING_KEYS[1]
    assert unseal(newer, bound_to=ROW) == b"token"
    with pytest.raises(KeyError):
        unseal(older, bound_to=ROW)


def test_without_keys_nothing_is_sealed(settings):
    settings.SEALING_KEYS = {}
    with pytest.raises(ImproperlyConfigured, match="BERTH_SEALING_KEYS"):
        seal(b"token", bound_to=ROW)
