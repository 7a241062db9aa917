"""The command `silverpoint` as a whole: what it lists, how quickly, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from silverpoint import __version__
from silverpoint.cli import main as cli
from silverpoint.errors import ModelError, UsageError


def fake_command(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Add the command `fake` that does `run`."""
    module = SimpleNamespace(add_parser=lambda subparsers: subparsers.add_parser("fake"), run=run)
    monkeypatch.setitem(cli.COMMANDS, "fake", "nothing")
    monkeypatch.setitem(sys.modules, "silverpoint.cli.fake", module)


def fails(error: BaseException) -> Any:
    def run(args: Any) -> int:
        raise error

    return run


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name, text in cli.COMMANDS.items():
        assert name in listed
        assert text.split()[0] in listed
    code = (
        "import sys; from silverpoint.cli.main import main; main(['--help'])\n"
        "assert not {'numpy', 'PIL', 'onnxruntime', 'torch', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"silverpoint {command}" in said.partition("options:")[2], "no example"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"silverpoint {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [[], ["paint"], ["sketch"], ["sketch", "a.jpg", "--colour"], ["sketch", "a.jpg", "--threads", "0"]],
)
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert "usage: silverpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ModelError("m.onnx: damaged"), 1, "silverpoint: m.onnx: damaged"),
        (UsageError("no"), 2, "silverpoint: no"),
        (KeyboardInterrupt(), 130, "silverpoint: interrupted"),
        (
            ValueError("a\nb"),
            1,
            "silverpoint: unexpected ValueError: a b; --debug shows where, please report it",
        ),
        (OSError(28, "No space left on device", "out"), 1, "silverpoint: out: No space left on device"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            1,
            "silverpoint: this needs the Python package torch; "
            "install it with: pip install 'silverpoint[train]'",
        ),
    ],
)
def test_errors_are_one_line(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_command(monkeypatch, fails(error))
    assert cli.main(["fake"]) == status
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize("argv", [["--debug", "fake"], ["fake", "--debug"]])
def test_debug_shows_the_traceback(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(monkeypatch, fails(ValueError("inside")))
    with pytest.raises(ValueError, match="inside"):
        cli.main(argv)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
def test_a_closed_pipe_is_no_error() -> None:
    code = (
        "import sys; from silverpoint.cli import main, models\n"
        "models.run = lambda args: print('a model') or 0\n"
        "sys.exit(main.main(['models']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == cli.BROKEN_PIPE


def test_models(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("silverpoint.synthesis.model._folder", lambda: tiny_model.parent)
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    for fact in ("tiny: photo -> sketch", "cufs (default), fs2k1", "MIT", "fsim 0.5"):
        assert fact in said
    assert cli.main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["styles"] == ["cufs", "fs2k1"]
