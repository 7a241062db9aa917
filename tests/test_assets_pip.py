"""The indexes silverpoint asks are those that pip would ask."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from silverpoint.assets.pip_settings import PipSettings, read_pip_settings
from silverpoint.errors import AssetError

DEFAULT = "https://index.example/simple/"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without any pip settings."""
    for variable in list(os.environ):
        if variable.startswith("PIP_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "shared"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path


def configure(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def settings() -> PipSettings:
    return read_pip_settings(DEFAULT)


def test_without_settings_it_is_the_default_index():
    assert settings() == PipSettings((DEFAULT,), None, None, None, 15.0)


def test_variables_say_the_indexes_in_order(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://a/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://b/simple https://c/simple https://a/simple")
    assert settings().indexes == ("https://a/simple", "https://b/simple", "https://c/simple")


def test_folders_among_the_indexes_are_passed_over(monkeypatch):
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///opt/simple https://b/simple")
    assert settings().indexes == (DEFAULT, "https://b/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "file:///opt/simple")
    assert settings().indexes == ("https://b/simple",)


def test_no_index_means_none(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    assert settings().indexes == ()


def test_a_chosen_file_is_read_and_variables_win_over_it(home, monkeypatch):
    text = "[global]\nindex-url = https://a/%40/simple\ntimeout = 60\n"
    text += "[install]\nextra_index_url =\n  https://b/simple\n  https://c/simple\n"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configure(home / "chosen.conf", text)))
    assert settings().indexes == ("https://a/%40/simple", "https://b/simple", "https://c/simple")
    assert settings().timeout == 60
    monkeypatch.setenv("PIP_INDEX_URL", "https://d/simple")
    assert settings().indexes[0] == "https://d/simple"


@pytest.mark.skipif(sys.platform != "linux", reason="the places of pip's files differ by system")
def test_the_users_file_wins_over_the_machines(home, monkeypatch):
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setattr(sys, "prefix", str(home / "environment"))
    configure(
        home / "shared/pip/pip.conf", "[global]\nindex-url = https://shared/simple\nproxy = http://p:3128\n"
    )
    assert settings().indexes[0] == "https://shared/simple"
    configure(home / ".pip/pip.conf", "[global]\nindex-url = https://legacy/simple\n")
    assert settings().indexes[0] == "https://legacy/simple"
    configure(home / "config/pip/pip.conf", "[global]\nindex-url = https://user/simple\ncert = /ca.pem\n")
    assert settings().indexes[0] == "https://user/simple"
    configure(home / "environment/pip.conf", "[global]\nindex-url = https://environment/simple\n")
    assert settings().indexes[0] == "https://environment/simple"
    assert settings().cert == "/ca.pem"
    assert settings().proxy == "http://p:3128"


def test_unreadable_settings_are_named(home, monkeypatch):
    monkeypatch.setenv(
        "PIP_CONFIG_FILE", str(configure(home / "bad.conf", "index-url = without a section\n"))
    )
    with pytest.raises(AssetError, match=r"bad\.conf"):
        settings()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_TIMEOUT", "soon")
    with pytest.raises(AssetError, match="'soon'"):
        settings()
