"""A training step of ours beside a plain transcription of the well-known public one: time, and the same curve.

    python benchmarks/training.py [pix2pix cyclegan cut] [--precision bf16-mixed] [--compile] [--loop N]

Both begin with the same weights, see the same batches of 256x256 pairs and are timed in turn, step by step, on this
machine and in this run; what counts are the ratios. The plain steps have the order of calls of the authors' code:
every image through every network by itself, contiguous features, Adam as torch.optim gives it, 32 bits.

`--loop N` then runs N steps as `train` does, batches prepared on the way, and says what bounds them: the share of the
time that the step waits for its batch and, on a graphics card, the share in which a kernel runs there.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from silverpoint.data.batches import Batch
from silverpoint.methods import method_class
from silverpoint.methods.method import Method
from silverpoint.training.processes import Agreement
from silverpoint.training.settings import build_settings
from silverpoint.training.trainer import RunOptions, Trainer, _prepared, _seed

PAIRS, WARM = 8, 2


# ---- the plain steps ---------------------------------------------------------------------------------------------


def plain(net: nn.Module) -> nn.Module:
    return deepcopy(net).to(memory_format=torch.contiguous_format)


def adam(*nets: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam([p for net in nets for p in net.parameters()], lr=lr, betas=(0.5, 0.999))


def learn(nets: list[nn.Module], yes: bool) -> None:
    for net in nets:
        for parameter in net.parameters():
            parameter.requires_grad = yes


def least_squares(logits: Tensor, real: bool) -> Tensor:
    return F.mse_loss(logits, torch.tensor(float(real), device=logits.device).expand_as(logits))


class PlainPix2Pix:
    """backward_D on a fake and a real pair, then backward_G."""

    def __init__(self, ours: Method) -> None:
        self.G, self.D = plain(ours.generator.unet), plain(ours.discriminator)
        self.optimizer_G, self.optimizer_D = adam(self.G, lr=2e-4), adam(self.D, lr=2e-4)

    @staticmethod
    def gan(logits: Tensor, real: bool) -> Tensor:
        target = torch.tensor(float(real), device=logits.device).expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, target)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        real_A, real_B = batch.photo, batch.sketch
        fake_B = self.G(real_A)
        learn([self.D], True)
        self.optimizer_D.zero_grad()
        loss_fake = self.gan(self.D(torch.cat((real_A, fake_B.detach()), 1)), False)
        loss_real = self.gan(self.D(torch.cat((real_A, real_B), 1)), True)
        ((loss_fake + loss_real) * 0.5).backward()
        self.optimizer_D.step()
        learn([self.D], False)
        self.optimizer_G.zero_grad()
        loss_gan = self.gan(self.D(torch.cat((real_A, fake_B), 1)), True)
        loss_l1 = F.l1_loss(fake_B, real_B) * 100
        (loss_gan + loss_l1).backward()
        self.optimizer_G.step()
        return {"g_gan": loss_gan, "g_l1": loss_l1, "d_fake": loss_fake / 2, "d_real": loss_real / 2}


class PlainCycleGAN:
    """Both generators with cycles and identities, then each discriminator on a real and a pooled image."""

    def __init__(self, ours: Method) -> None:
        self.G_A, self.G_B = plain(ours.G_A.net), plain(ours.G_B.net)
        self.D_A, self.D_B = plain(ours.D_A), plain(ours.D_B)
        self.optimizer_G = adam(self.G_A, self.G_B, lr=2e-4)
        self.optimizer_D = adam(self.D_A, self.D_B, lr=2e-4)
        self.pools: tuple[list[Tensor], list[Tensor]] = ([], [])

    @staticmethod
    def query(pool: list[Tensor], images: Tensor) -> Tensor:
        answer = []
        for image in images.detach().split(1):
            if len(pool) < 50:
                pool.append(image)
                answer.append(image)
            elif random.random() > 0.5:
                place = random.randrange(50)
                answer.append(pool[place].clone())
                pool[place] = image
            else:
                answer.append(image)
        return torch.cat(answer)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        real_A, real_B = batch.photo, batch.sketch.expand(-1, 3, -1, -1)
        fake_B = self.G_A(real_A)
        rec_A = self.G_B(fake_B)
        fake_A = self.G_B(real_B)
        rec_B = self.G_A(fake_A)
        learn([self.D_A, self.D_B], False)
        self.optimizer_G.zero_grad()
        losses = {
            "idt_A": F.l1_loss(self.G_A(real_B), real_B) * 10 * 0.5,
            "idt_B": F.l1_loss(self.G_B(real_A), real_A) * 10 * 0.5,
            "G_A": least_squares(self.D_A(fake_B), True),
            "G_B": least_squares(self.D_B(fake_A), True),
            "cycle_A": F.l1_loss(rec_A, real_A) * 10,
            "cycle_B": F.l1_loss(rec_B, real_B) * 10,
        }
        sum(losses.values()).backward()
        self.optimizer_G.step()
        learn([self.D_A, self.D_B], True)
        self.optimizer_D.zero_grad()
        for name, net, real, fake, pool in (
            ("D_A", self.D_A, real_B, fake_B, self.pools[0]),
            ("D_B", self.D_B, real_A, fake_A, self.pools[1]),
        ):
            seen = self.query(pool, fake)
            losses[name] = (least_squares(net(real), True) + least_squares(net(seen), False)) * 0.5
            losses[name].backward()
        self.optimizer_D.step()
        return losses


class PlainCUT:
    """The discriminator, then the generator with its heads; sources and drawings are encoded anew for the loss."""

    def __init__(self, ours: Method) -> None:
        self.G, self.D, self.heads = plain(ours.generator.net), plain(ours.discriminator), plain(ours.heads)
        self.layers = ours.layers
        self.optimizers = [adam(net, lr=2e-4) for net in (self.G, self.D, self.heads)]

    def patches(self, features: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        return self.heads(
            [f.flatten(2)[:, :, p].transpose(1, 2) for f, p in zip(features, places, strict=True)]
        )

    def nce(self, source: Tensor, drawn: Tensor) -> Tensor:
        queries = self.G.encode(drawn.expand(-1, 3, -1, -1), self.layers)
        keys = self.G.encode(source.expand(-1, 3, -1, -1), self.layers)
        places = [torch.randperm(f[0, 0].numel(), device=f.device)[:256] for f in keys]
        loss = torch.zeros((), device=source.device)
        for k, q in zip(self.patches(keys, places), self.patches(queries, places), strict=True):
            k = k.detach()
            positive = (q * k).sum(2, keepdim=True)
            negative = torch.bmm(q, k.transpose(1, 2))
            diagonal = torch.eye(k.shape[1], device=k.device, dtype=torch.bool)
            negative = negative.masked_fill(diagonal, -10.0)
            logits = torch.cat((positive, negative), 2).flatten(0, 1) / 0.07
            target = torch.zeros(len(logits), dtype=torch.long, device=k.device)
            loss = loss + F.cross_entropy(logits, target)
        return loss / len(places)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        real_A, real_B = batch.photo, batch.sketch
        optimizer_G, optimizer_D, optimizer_F = self.optimizers
        fake = self.G(torch.cat((real_A, real_B.expand(-1, 3, -1, -1))))
        fake_B, idt_B = fake.chunk(2)
        learn([self.D], True)
        optimizer_D.zero_grad()
        d_fake = least_squares(self.D(fake_B.detach()), False)
        d_real = least_squares(self.D(real_B), True)
        ((d_fake + d_real) * 0.5).backward()
        optimizer_D.step()
        learn([self.D], False)
        optimizer_G.zero_grad()
        optimizer_F.zero_grad()
        g_gan = least_squares(self.D(fake_B), True)
        g_nce = (self.nce(real_A, fake_B) + self.nce(real_B, idt_B)) * 0.5
        (g_gan + g_nce).backward()
        optimizer_G.step()
        optimizer_F.step()
        return {"d_fake": d_fake / 2, "d_real": d_real / 2, "g_gan": g_gan, "g_nce": g_nce}


PLAIN: dict[str, Callable[[Method], PlainPix2Pix | PlainCycleGAN | PlainCUT]] = {
    "pix2pix": PlainPix2Pix,
    "cyclegan": PlainCycleGAN,
    "cut": PlainCUT,
}


# ---- ours --------------------------------------------------------------------------------------------------------


def write_pairs(folder: Path) -> Path:
    """Smooth random pictures: what is in them changes no time."""
    rng = np.random.default_rng(0)
    rows = ["id,subset,split,photo,sketch,style"]
    for i in range(PAIRS):
        photo = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize((256, 256))
        photo.save(folder / f"p{i}.png")
        photo.convert("L").save(folder / f"s{i}.png")
        rows.append(f"p{i},all,train,p{i}.png,s{i}.png,all")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder


def ready(name: str, folder: Path, args: argparse.Namespace) -> Trainer:
    """A trainer at the first step of its run."""
    settings = build_settings(method_class(name).settings_class, {"batch_size": args.batch_size})
    options = RunOptions(
        (str(folder),), precision=args.precision, accelerator=args.accelerator, compile=args.compile
    )
    trainer = Trainer(name, settings, options, folder / "run")
    trainer.fabric.launch()
    trainer.all = Agreement(trainer.fabric)
    trainer._build()
    return trainer


def compare(name: str, folder: Path, args: argparse.Namespace) -> None:
    clock = time.process_time if args.busy else time.perf_counter
    trainer = ready(name, folder, args)
    stage = trainer.method.stages()[0]
    device = trainer.fabric.device
    theirs = PLAIN[name](trainer.method.to(device))
    trainer._enter(0, stage)
    batches = [trainer.batches.batch(step).to(device) for step in range(args.rounds + WARM)]
    total = stage.epochs * trainer.batches.steps_per_epoch
    times: tuple[list[float], list[float]] = ([], [])
    curves: tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]] = ([], [])
    for step, batch in enumerate(batches):
        for side, run in enumerate(
            (lambda b: theirs.step(b), lambda b, step=step: trainer._update(stage, step, total, b))
        ):
            _seed(0, step, 0)
            _wait(device)
            began = clock()
            losses = run(batch)
            _wait(device)
            times[side].append(clock() - began)
            curves[side].append({key: value.detach() for key, value in losses.items()})
    slow, fast = (1e3 * statistics.quantiles(t[WARM:], n=4)[0] for t in times)
    print(f"{name:9s}  plain {slow:7.1f} ms   ours {fast:7.1f} ms   {slow / fast:.2f} times as fast")
    for key in curves[0][0]:
        a, b = (torch.stack([losses[key].float() for losses in curve]) for curve in curves)
        print(
            f"    {key:8s} first {a[0]:.4f} {b[0]:.4f}   mean of {len(a)} steps {a.mean():.4f} {b.mean():.4f}   "
            f"apart by {float((a - b).abs().mean() / a.abs().mean()):.1e}"
        )


def loop(name: str, folder: Path, args: argparse.Namespace) -> None:
    """The trainer's own steps with the trainer's own loader, and where their time goes."""
    trainer = ready(name, folder, args)
    stage, device, steps = trainer.method.stages()[0], trainer.fabric.device, args.loop + WARM
    trainer._enter(0, stage)
    activities = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    waited = began = 0.0
    with (
        _prepared(trainer.batches, 0, steps, device) as upcoming,
        profile(activities=activities) if activities else nullcontext() as seen,
    ):
        for step in range(steps):
            if step == WARM:
                _wait(device)
                waited, began = 0.0, time.perf_counter()
            asked = time.perf_counter()
            batch = next(upcoming).to(device)
            waited += time.perf_counter() - asked
            trainer._update(stage, step, steps, batch)
        _wait(device)
        took = time.perf_counter() - began
    text = f"{name:9s}  loop {args.loop * args.batch_size / took:.1f} images/s   waits for batches {waited / took:.1%}"
    if (
        seen is not None
    ):  # kernels of one stream follow each other, so their times add up; the warm steps' are in it
        busy = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
        text += f"   the card computes {busy / took * args.loop / steps:.1%}"
    print(text)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", default=list(PLAIN), help=f"of {', '.join(PLAIN)}")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--loop", type=int, default=0, metavar="N", help="N steps with the loader: what bounds them"
    )
    parser.add_argument(
        "--busy", action="store_true", help="processor time of one thread, where others compute too"
    )
    args = parser.parse_args()
    if args.busy:
        torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.precision}, batch {args.batch_size}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in args.methods:
            compare(name, write_pairs(Path(folder)), args)
            if args.loop:
                loop(name, write_pairs(Path(folder)), args)


if __name__ == "__main__":
    main()
