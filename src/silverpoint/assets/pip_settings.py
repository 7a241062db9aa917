"""Where the user's pip looks for packages: its configuration files and PIP_* variables, read as pip does."""

from __future__ import annotations

import configparser
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from silverpoint.errors import AssetError


@dataclass(frozen=True)
class PipSettings:
    """The package indexes pip would ask, in its order, and how it would reach them.

    `indexes` is empty when pip is told to use none (`no-index`).
    """

    indexes: tuple[str, ...]
    cert: str | None
    client_cert: str | None
    proxy: str | None
    timeout: float


def read_pip_settings(default_index: str) -> PipSettings:
    """pip's settings; the later wins: global, user, environment's file, PIP_CONFIG_FILE, PIP_* variables.

    Indexes that are folders (`file://`) are left out: they mirror a few wheels, and are not read over HTTP.
    """
    options: dict[str, str] = {}
    for path in _config_files():
        options.update(_read(path))
    for variable, value in os.environ.items():
        if variable.startswith("PIP_") and value:
            options[variable[4:].lower().replace("_", "-")] = value
    urls = [options.get("index-url", default_index), *options.get("extra-index-url", "").split()]
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        urls = []
    return PipSettings(
        indexes=tuple(dict.fromkeys(url for url in urls if url.startswith(("http://", "https://")))),
        cert=options.get("cert"),
        client_cert=options.get("client-cert"),
        proxy=options.get("proxy"),
        timeout=_seconds(options.get("timeout") or options.get("default-timeout") or "15"),
    )


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise AssetError(f"pip's timeout is set to {text!r}, which is no number of seconds") from None


def _config_files() -> list[Path]:
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:  # pip's way to say "no configuration files at all"
        return []
    home, name = Path.home(), "pip.ini" if os.name == "nt" else "pip.conf"
    if os.name == "nt" or sys.platform == "darwin":
        folders = [Path(platformdirs.site_data_dir("pip", appauthor=False))]
    else:
        shared = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        folders = [*map(Path, shared), Path("/etc")]
    folders += [home / ("pip" if os.name == "nt" else ".pip")]
    folders += [home / ".config" / "pip"] if sys.platform == "darwin" else []
    folders += [Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True)), Path(sys.prefix)]
    return [folder / name for folder in folders] + ([Path(chosen)] if chosen else [])


def _read(path: Path) -> dict[str, str]:
    """The options of one file: `[global]`, then `[install]`, which is where some people keep their index."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError) as error:
        message = str(error).splitlines()[0]
        raise AssetError(f"pip's configuration {path} cannot be read: {message}") from error
    sections = [parser[section] for section in ("global", "install") if parser.has_section(section)]
    return {key.replace("_", "-"): value for section in sections for key, value in section.items() if value}
