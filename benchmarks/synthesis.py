"""How fast a face is drawn, against the generators a user would pick instead; and the command, cold and in bulk.

    python benchmarks/synthesis.py [--faces] [--command] [--folder] [--count N]

Everything runs on two threads of this machine, in this run; what counts are the ratios.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
THREADS = 2
# width and height of a photo, and the side of the portrait in it
KINDS = {
    "small (600x600)": (600, 600, 675),
    "phone (12 MP, half-length)": (3000, 4000, 1350),
    "small face (12 MP)": (4000, 3000, 400),
}


def milliseconds(calls: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Median of `rounds`, each of which makes every call three times, the first to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.2)  # until the threads of the one before no longer spin
            call()
            for _ in range(2):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def bench_faces() -> None:
    """One 256x256 face: eager torch and ONNX Runtime, the shipped file against U-Net-256 and ResNet-9."""
    import onnxruntime
    import torch

    from silverpoint.nets.pencil import PencilNet
    from silverpoint.nets.resnet import ResNet9
    from silverpoint.nets.unet import UNet256
    from silverpoint.synthesis.model import open_model

    torch.set_num_threads(THREADS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    photo, style = torch.rand(1, 3, 256, 256) * 2 - 1, torch.eye(4)[:1]
    inputs = {"photo": photo.numpy(), "style": style.numpy()}
    face = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((256, 256)))[None]
    network, drawn = "silverpoint pencil, network", "silverpoint pencil, as drawn"
    eager: dict[str, Callable[[], object]] = {}
    exported: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name, net in (("pix2pix U-Net-256", UNet256(3, 3)), ("CycleGAN ResNet-9", ResNet9(3, 3))):
            net.eval()
            path = Path(folder) / "net.onnx"
            torch.onnx.export(net, (photo,), path, dynamo=True, verbose=False, external_data=False)
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            feeds = {session.get_inputs()[0].name: inputs["photo"]}
            eager[name] = lambda net=net: net(photo)
            exported[name] = lambda session=session, feeds=feeds: session.run(None, feeds)
        # the weights in the package are those of the file; what they are makes no difference to the time
        pencil = PencilNet(4).eval()
        eager[network] = lambda: pencil(photo, style)
        shipped = str(files("silverpoint.synthesis").joinpath("models", "pencil.onnx"))
        alike = onnxruntime.InferenceSession(shipped, options, providers=["CPUExecutionProvider"])
        exported[network] = lambda: alike.run(None, inputs)  # its threads wait as the rivals' do, spinning
        model = open_model("pencil", threads=THREADS)
        exported[drawn] = lambda: model.draw(face)
        torch_ms, onnx_ms = milliseconds(eager), milliseconds(exported)
    print(f"{'256x256, 2 threads':30s}{'torch ms':>10s}{'ratio':>8s}{'ONNX Runtime ms':>18s}{'ratio':>8s}")
    for name, ms in onnx_ms.items():
        in_torch = (
            f"{torch_ms[name]:10.1f}{torch_ms[name] / torch_ms[network]:7.1f}x" if name in eager else ""
        )
        print(f"{name:30s}{in_torch:18s}{ms:18.1f}{ms / onnx_ms[network]:7.1f}x")


def make_photos(folder: Path, kind: str, count: int) -> None:
    """Photos of one kind: the portrait, here and there, its last rows and columns repeated to the borders."""
    width, height, side = KINDS[kind]
    portrait = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((side, side)))
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        left, top = (int(v) for v in rng.integers(-30, 31, 2))
        rows = np.arange(height) - (height - side) // 2 + top
        columns = np.arange(width) - (width - side) // 2 + left
        photo = portrait.take(rows, 0, mode="clip").take(columns, 1, mode="clip")
        Image.fromarray(photo).save(folder / f"{i:03d}.jpg", quality=92)


def photos(folder: Path, kind: str, count: int) -> list[Path]:
    """Photos made in another process: a child's peak of memory counts that of the process it was forked from."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(make_photos, folder, kind, count).result()
    return sorted(folder.iterdir())


def run_command(source: Path, output: Path) -> tuple[float, float]:
    """Wall seconds and peak resident MB of one `silverpoint sketch` in a new process."""
    command = [sys.executable, "-m", "silverpoint", "sketch", str(source), "-o", str(output), "--overwrite"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--threads", str(THREADS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(message.decode())
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def bench_command() -> None:
    """The whole command on one photo of each kind, cold: what a person waits."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        sources = {"examples/portrait.jpg": PORTRAIT}
        sources |= {kind: photos(root / f"{i}", kind, 1)[0] for i, kind in enumerate(KINDS)}
        for kind, source in sources.items():
            runs = [run_command(source, root / "drawn.png") for _ in range(5)]
            seconds, memory = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
            print(f"one photo, cold, {kind}: {seconds:.2f} s, {memory:.0f} MB at the peak")


def bench_folder(kind: str, count: int) -> None:
    """A folder against as many single commands, and the memory of a large folder against a small one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        few = max(1, count // 5)
        photos(root / "few", kind, few)
        sources = photos(root / "many", kind, count)
        _, few_memory = run_command(root / "few", root / "few-out")
        seconds, memory = run_command(root / "many", root / "many-out")
        single = [run_command(path, root / f"one-{path.stem}.png")[0] for path in sources[:10]]
    rate = statistics.mean(single) / (seconds / count)
    print(
        f"a folder of {count}, {kind}: {count / seconds:.1f} photos/s, {rate:.1f}x the rate of single commands"
    )
    print(f"memory, {kind}: {few_memory:.0f} MB for {few} photos, {memory:.0f} MB for {count}")


def bench_folders(count: int) -> None:
    small, phone, _ = KINDS
    bench_folder(small, count)
    bench_folder(phone, max(1, count // 4))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for part in ("faces", "command", "folder"):
        parser.add_argument(f"--{part}", action="store_true", help="only this part, or these")
    parser.add_argument("--count", type=int, default=100, help="small photos in a folder (phone: a quarter)")
    args = parser.parse_args()
    everything = not (args.faces or args.command or args.folder)
    # torch comes last: a child's peak of memory counts that of the process it was forked from
    if args.command or everything:
        bench_command()
    if args.folder or everything:
        bench_folders(args.count)
    if args.faces or everything:
        bench_faces()


if __name__ == "__main__":
    main()
