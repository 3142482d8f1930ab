"""What can be shown of a cluster is explained: in docs/clusters.md, and beside what is shown."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from clusters.inventory.images import DEFAULTS
from clusters.kube.errors import Fault
from clusters.specs import Trouble, Tuning
from portal.pages.console.engine_images import USES
from portal.pages.console.engine_settings import KNOBS
from portal.pages.troubles import TROUBLES

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/clusters.md").read_text()
CODES = {
    *(fault.value for fault in Fault),
    *re.findall(r'code="([a-z-]+)"', (ROOT / "clusters/kube/check.py").read_text()),
}
NAMED = [trouble for trouble in Trouble if trouble is not Trouble.NONE]


@pytest.mark.parametrize("code", sorted(CODES | {"ok"}))
def test_every_result_of_a_connection_check_is_explained(code):
    assert f"`{code}`" in PAGE


@pytest.mark.parametrize("trouble", NAMED)
def test_every_trouble_of_a_replica_is_explained_and_told(trouble):
    assert f"| `{trouble}` | {TROUBLES[trouble].title} |" in PAGE
    assert TROUBLES[trouble].remedy


def test_every_engine_setting_has_a_label_and_a_reason():
    assert {knob.name for knob in KNOBS} == {field.name for field in dataclasses.fields(Tuning)}
    assert all(knob.label and knob.why for knob in KNOBS)


def test_every_use_of_an_image_says_what_it_blocks():
    assert set(USES) == set(DEFAULTS)


def test_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
