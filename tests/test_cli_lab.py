"""The lab from end to end, by the commands a researcher types."""

import json

import pytest
from PIL import Image

from drawn import write_pair_folders
from silverpoint.cli.main import main

SETTINGS = [
    "--batch_size",
    "2",
    "--crop_size",
    "48",
    "--lambda_perceptual",
    "0",
    "--discriminator_width",
    "8",
]


@pytest.fixture(autouse=True)
def _no_downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")


def test_from_two_folders_to_a_drawing(tmp_path, portrait, capsys):
    source, dataset, run = (
        write_pair_folders(tmp_path / "mine", 10),
        str(tmp_path / "dataset"),
        str(tmp_path / "run"),
    )
    fakes, model, drawn = str(tmp_path / "fakes"), str(tmp_path / "model.onnx"), tmp_path / "drawn.png"

    assert main(["prepare", "pairs", str(source), "--out", dataset, "--val", "0.3"]) == 0
    assert "10 pairs" in capsys.readouterr().out

    train = [
        "train",
        "pencil",
        dataset,
        "--out",
        run,
        "--epochs",
        "2",
        "--accelerator",
        "cpu",
        "--select",
        "ssim",
    ]
    assert main([*train, *SETTINGS]) == 0
    assert "ssim" in capsys.readouterr().out

    assert main(["synthesize", run, dataset, "--split", "val", "--out", fakes]) == 0
    report = tmp_path / "report.json"
    real = f"{dataset}/sketches/mine"
    assert main(["evaluate", "--fake", fakes, "--real", real, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["ssim"] is not None

    assert main(["export", run, "--out", model, "--about", '{"licence": "test"}']) == 0
    assert main(["sketch", str(portrait), "--model", model, "--face", "-o", str(drawn)]) == 0
    assert Image.open(drawn).size == (200, 250)


def test_the_training_log_says_what_evaluate_says(tmp_path):
    dataset, run, report = (str(tmp_path / name) for name in ("dataset", "run", "report.json"))
    source = str(write_pair_folders(tmp_path / "mine", 6, (64, 80)))
    assert main(["prepare", "pairs", source, "--out", dataset, "--val", "0.5"]) == 0
    train = ["train", "pencil", dataset, "--out", run, "--epochs", "1", "--accelerator", "cpu"]
    assert main([*train, "--select", "ssim", *SETTINGS]) == 0
    log = (tmp_path / "run/log.jsonl").read_text().splitlines()
    logged = [line for line in map(json.loads, log) if line.get("validation") == "photo2sketch"][-1]
    assert logged["geometry"] == "native"
    of_val = ["--run", run, "--data", dataset, "--split", "val", "--geometry", "native", "--no-floors"]
    assert main(["evaluate", *of_val, "--metrics", "psnr,ssim,fsim", "--json", report]) == 0
    found = json.loads((tmp_path / "report.json").read_text())
    for name in ("psnr", "ssim", "fsim"):
        assert logged[name] == pytest.approx(found[name], abs=1e-4)


def test_a_second_training_in_the_same_folder_points_to_resume(tmp_path, capsys):
    dataset, run = str(tmp_path / "dataset"), str(tmp_path / "run")
    main(
        [
            "prepare",
            "pairs",
            str(write_pair_folders(tmp_path / "mine", 4, (64, 80))),
            "--out",
            dataset,
            "--val",
            "0",
        ]
    )
    train = ["train", "pencil", dataset, "--out", run, "--epochs", "1", "--accelerator", "cpu", *SETTINGS]
    assert main(train) == 0
    capsys.readouterr()
    assert main(train) == 1
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "pencil", "--out", run, "--resume"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["prepare", "cufs", "nowhere", "--out", "out"], 1, "nowhere: missing folder"),
        (["prepare", "cufz", "nowhere", "--out", "out"], 2, "cufs"),
        (["export", "nowhere", "--out", "m.onnx"], 1, "not the settings of a run"),
        (["export", "nowhere", "--out", "m.onnx", "--about", "{"], 2, "not JSON"),
        (["synthesize", "nowhere", "data", "--out", "out"], 1, "not the settings of a run"),
        (["train", "pencil", "data", "--out", "run", "--style-weights", "cufs"], 2, "STYLE=NUMBER"),
        (["methods", "pixpix"], 2, "pix2pix"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_methods_lists_every_setting_with_its_source(capsys):
    assert main(["methods"]) == 0
    assert {"pencil", "pix2pix"} <= set(capsys.readouterr().out.split())
    assert main(["methods", "pix2pix"]) == 0
    assert "--lambda_l1" in capsys.readouterr().out
