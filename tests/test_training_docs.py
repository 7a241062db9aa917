"""What docs/training.md shows is run."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import silverpoint.methods.method as registry
from lab import write_dataset
from silverpoint.cli.main import main
from silverpoint.methods import method_class
from silverpoint.methods.method import CommonSettings
from silverpoint.training.options import build_options
from silverpoint.training.settings import build_settings

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text()


@pytest.fixture
def plain(monkeypatch, tmp_path):
    """The method of the page, registered as the page says."""
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    found: dict = {"__name__": "plain"}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], found)
    monkeypatch.setitem(registry._REGISTRY, "plain", lambda: found["Plain"])
    return found["Plain"]


@pytest.mark.usefixtures("plain")
def test_the_method_of_the_page_trains_resumes_draws_and_is_exported(tmp_path, capsys):
    dataset, run = str(write_dataset(tmp_path / "data", train=3, val=2, masks=True)), str(tmp_path / "run")
    train = ["train", "plain", dataset, "--out", run, "--accelerator", "cpu", "--select", "ssim"]
    assert main([*train, "--epochs", "2", "--crop_size", "32", "--width", "4"]) == 0
    assert main(["train", "plain", "--out", run, "--resume"]) == 0
    fakes = tmp_path / "fakes"
    assert main(["synthesize", run, dataset, "--split", "val", "--out", str(fakes)]) == 0
    assert len(list(fakes.iterdir())) == 2
    assert main(["export", run, "--out", str(tmp_path / "plain.onnx"), "--bits", "32"]) == 0
    assert "agrees with torch" in capsys.readouterr().out


def test_the_file_of_the_page_holds_settings_and_options_there_are():
    text = re.search(r"    # fewer\.yaml\n(.*?)\n\n", PAGE, re.DOTALL)[1]
    content = yaml.safe_load("\n".join(line.strip() for line in text.splitlines()))
    settings = build_settings(method_class(content["method"]).settings_class, content["settings"])
    assert (settings.n_epochs, settings.lambda_l1) == (50, 50)
    assert build_options(content["run"]).select == "fsim"


def test_every_flag_the_page_names_is_one(capsys):
    named = set(re.findall(r"(?<![\w-])--([a-z][\w-]+)", PAGE))
    elsewhere = {"logdir", "nproc-per-node", "nnodes", "rdzv-backend", "rdzv-endpoint", "split", "lambda_l1"}
    for command in ("train", "export"):
        main([command, "--help"])
    known = set(re.findall(r"--([a-z][\w-]+)", capsys.readouterr().out))
    known |= {field.name for field in fields(CommonSettings)}
    assert named - elsewhere <= known
