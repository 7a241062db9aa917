"""How fast a face is drawn, against the generators a user would pick instead; and the command, cold and in bulk.

    python benchmarks/synthesis.py [--faces] [--command] [--folder]

Everything runs on two threads of this machine, in this run; what counts are the ratios.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
THREADS = 2


def milliseconds(call: Callable[[], object], rounds: int = 15) -> float:
    """Lower quartile of `rounds` calls after three to warm up: what the machine does when it is left alone."""
    for _ in range(3):
        call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.quantiles(times, n=4)[0]


def bench_faces() -> None:
    """One 256x256 face: eager torch and ONNX Runtime, the shipped model against U-Net-256 and ResNet-9."""
    import onnxruntime
    import torch

    from silverpoint.nets.pencil import PencilNet
    from silverpoint.nets.resnet import ResNet9
    from silverpoint.nets.unet import UNet256

    torch.set_num_threads(THREADS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    photo, style = torch.rand(1, 3, 256, 256) * 2 - 1, torch.eye(4)[:1]
    times: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name, net, inputs in (
            ("pix2pix U-Net-256", UNet256(3, 3).eval(), (photo,)),
            ("CycleGAN ResNet-9", ResNet9(3, 3).eval(), (photo,)),
            ("silverpoint pencil", PencilNet(4).eval(), (photo, style)),
        ):
            rounds = 5 if "ResNet" in name else 15
            eager = milliseconds(lambda net=net, inputs=inputs: net(*inputs), rounds)
            path = Path(folder) / "net.onnx"
            torch.onnx.export(net, inputs, path, dynamo=True, verbose=False, external_data=False)
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            feed = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
            times[name] = (eager, milliseconds(lambda s=session, f=feed: s.run(None, f), rounds))
    pencil = times["silverpoint pencil"]
    print(f"{'256x256, 2 threads':22s}{'torch ms':>10s}{'ratio':>8s}{'ONNX Runtime ms':>18s}{'ratio':>8s}")
    for name, (eager, exported) in times.items():
        ratios = eager / pencil[0], exported / pencil[1]
        print(f"{name:22s}{eager:10.1f}{ratios[0]:7.1f}x{exported:18.1f}{ratios[1]:7.1f}x")


def run_command(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one `silverpoint` command in a new process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "silverpoint", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(message.decode())
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def bench_command() -> None:
    """The whole command on one photo, cold: what a person waits."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            run_command("sketch", str(PORTRAIT), "-o", f"{folder}/{i}.png", "--threads", str(THREADS))
            for i in range(5)
        ]
    print(f"one photo, cold: {min(r[0] for r in runs):.2f} s, {max(r[1] for r in runs):.0f} MB at the peak")


def bench_folder(count: int = 100) -> None:
    """A folder against as many single commands, and the memory of a large folder against a small one."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photo = Image.open(PORTRAIT)
        rng = np.random.default_rng(0)
        for folder, photos in (("few", count // 5), ("many", count)):
            (root / folder).mkdir()
            for i in range(photos):
                x, y = (int(v) for v in rng.integers(0, 60, 2))
                photo.crop((x, y, x + 600, y + 600)).save(root / folder / f"{i:03d}.jpg", quality=92)
        _, few_memory = run_command("sketch", str(root / "few"), "-o", str(root / "few-out"))
        many, many_memory = run_command("sketch", str(root / "many"), "-o", str(root / "many-out"))
        single = [
            run_command("sketch", str(root / "few" / f"{i:03d}.jpg"), "-o", str(root / f"one-{i}.png"))[0]
            for i in range(10)
        ]
    rate = statistics.mean(single) / (many / count)
    print(f"a folder of {count}: {count / many:.1f} photos/s, {rate:.1f}x the rate of single commands")
    print(f"memory: {few_memory:.0f} MB for {count // 5} photos, {many_memory:.0f} MB for {count}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for part in ("faces", "command", "folder"):
        parser.add_argument(f"--{part}", action="store_true", help="only this part, or these")
    args = parser.parse_args()
    everything = not (args.faces or args.command or args.folder)
    # torch comes last: a child counts the memory of the process it was forked from as its own peak
    parts = ((args.command, bench_command), (args.folder, bench_folder), (args.faces, bench_faces))
    for wanted, bench in parts:
        if wanted or everything:
            bench()


if __name__ == "__main__":
    main()
