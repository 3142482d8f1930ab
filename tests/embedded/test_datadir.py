from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from embedded.datadir import DataDir, open_data_dir, read_json, write_json


def test_only_the_owner_may_look_inside(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "data")
    for path in (folder.path, folder.run, folder.logs, folder.folder("more")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_the_instance_stays_until_the_folder_is_copied(tmp_path: Path) -> None:
    first = DataDir(tmp_path / "data")
    assert len(bytes.fromhex(first.instance)) == 4
    assert DataDir(tmp_path / "data").instance == first.instance
    shutil.copytree(first.path, tmp_path / "copy")
    assert DataDir(tmp_path / "copy").instance != first.instance


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_DATA_DIR", str(tmp_path / "named"))
    assert open_data_dir().path == tmp_path / "named"
    monkeypatch.delenv("BERTH_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    assert open_data_dir().path == tmp_path / ".berth"


def test_json_is_replaced_whole_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    assert read_json(path, {"none": "yet"}) == {"none": "yet"}
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["value.json"]
    path.write_text("{half")
    assert read_json(path) is None
