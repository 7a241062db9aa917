"""Settings from flags and YAML: typed, checked, and refused with the nearest match when misspelt."""

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from silverpoint.errors import UsageError
from silverpoint.methods.method import CommonSettings
from silverpoint.training.options import RunOptions, convert, flag_of

SECTIONS = ("method", "frame", "settings", "run")  # of a run's settings.yaml


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """['--lambda_l1', '10', '--lr=1e-4'] -> {'lambda_l1': '10', 'lr': '1e-4'}; dashes and underscores are alike."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        flag, _, value = rest.pop(0).partition("=")
        if not flag.startswith("--"):
            raise UsageError(f"unexpected argument {flag!r}")
        if not value:
            if not rest:
                raise UsageError(f"{flag} needs a value")
            value = rest.pop(0)
        found[flag[2:].replace("-", "_")] = value
    return found


def read_yaml(path: Path, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and run options from a file like a run's settings.yaml, or settings from a plain mapping of them.

    Raises UsageError for a file of another method than `method`.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a readable settings file ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: settings must be a mapping of names to values")
    if "settings" not in content and "run" not in content:
        return content, {}
    if content.get("method", method) != method:
        raise UsageError(f"{path}: holds the settings of {content['method']}, not of {method}")
    for key in content:
        if key not in SECTIONS:
            raise UsageError(f"{path}: there is no section {key!r}; known: {', '.join(SECTIONS)}")
    return dict(content.get("settings") or {}), dict(content.get("run") or {})


def build_settings(cls: type[CommonSettings], values: Mapping[str, Any]) -> CommonSettings:
    """An instance of a method's Settings from names and values (strings are converted to the field's type)."""
    types = get_type_hints(cls)
    known = {f.name: types[f.name] for f in dataclasses.fields(cls)}
    flags = {name: f"--{name}" for name in known}
    for option in dataclasses.fields(RunOptions):
        flags.setdefault(option.name, flag_of(option.name))
    for name in values:
        if name not in known:
            near = get_close_matches(name, flags, n=1)
            hint = f"did you mean {flags[near[0]]}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"there is no setting --{name}; {hint}")
    return cls(**{name: convert(name, value, known[name]) for name, value in values.items()})
