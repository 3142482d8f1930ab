from __future__ import annotations

from pathlib import Path

import pytest

from embedded import requirements
from embedded.errors import MissingRequirements


def test_nothing_is_missing_where_the_tests_run() -> None:
    assert requirements.check() == []
    requirements.ensure()


def test_one_message_names_every_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = tmp_path / "ldd"
    loader.write_text("#!/bin/sh\necho '\tlibpython3.11.so.1.0 => not found'\n")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(requirements, "GLIBC", (9, 99))
    with pytest.raises(MissingRequirements) as raised:
        requirements.ensure()
    assert "apt-get install libpython3.11" in str(raised.value)
    assert "glibc 9.99" in str(raised.value)
    assert len(raised.value.missing) >= 2
