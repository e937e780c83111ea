"""Train gpen-compact: `python -m gpen_engine.compact.train FACES RUN`.

In: a folder of aligned crops. Out: `RUN/last.pt`, rewritten every few hundred steps, from which
the same command goes on after an interruption, and `RUN/log.csv`. Loss: L1 plus the L1 of image
gradients at three scales, on valid pixels. The weights that are kept are an exponential moving
average.
"""

import argparse
import csv
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its customary name
from torch.utils.data import DataLoader

from gpen_engine.checkpoint import load_generator
from gpen_engine.compact.data import TrainingFaces, load_crops
from gpen_engine.compact.evaluate import score
from gpen_engine.model import GpenConfig, GpenGenerator

_WIDTH = 0.125
_PAIR = 2.08
"""What two leaky ReLUs of slope 0.2 and gain sqrt(2) make of a colour and its negative: their
difference is 2 + 2 * 0.04 times the colour."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of one training run."""

    size: int = 128
    steps: int = 12_000
    batch: int = 6
    rate: float = 1e-3
    decay_from: float = 0.75
    ema: float = 0.998
    gradient_weight: float = 1.0
    save_every: int = 250
    score_every: int = 1_000
    seed: int = 7

    def rate_at(self, step: int) -> float:
        """Constant, then falling linearly to a twentieth over the last part of the run."""
        start = self.decay_from * self.steps
        done = max(0.0, (step - start) / max(1.0, self.steps - start))
        return self.rate * (1.0 - 0.95 * min(1.0, done))


def start_from_identity(model: GpenGenerator) -> None:
    """Set the weights so that the untrained network returns its input.

    The first encoder level carries each colour and its negative; the last level's noise half hands
    them to the last ToRGB, where the difference of the pair undoes both leaky ReLUs. What is
    learned is then only the restoration.
    """
    generator = model.generator
    with torch.no_grad():
        entry = model.get_parameter("ecd0.0.0.weight")
        entry[:6].zero_()
        for colour in range(3):
            entry[2 * colour, colour] = 3**0.5
            entry[2 * colour + 1, colour] = -(3**0.5)
        for name, parameter in generator.named_parameters():
            if name.startswith("to_rgb") and name.endswith("conv.weight"):
                parameter.zero_()
            if name.endswith("noise.weight"):
                parameter.fill_(1.0)
        last = len(generator.to_rgbs) - 1
        generator.get_parameter(f"to_rgbs.{last}.conv.modulation.weight").zero_()
        exit_ = generator.get_parameter(f"to_rgbs.{last}.conv.weight")
        width = exit_.shape[2]
        gain = width**0.5 / _PAIR
        for colour in range(3):
            exit_[0, colour, width // 2 + 2 * colour] = gain
            exit_[0, colour, width // 2 + 2 * colour + 1] = -gain


def compact_config(size: int) -> GpenConfig:
    """Return the shape of gpen-compact for faces of `size` pixels."""
    return GpenConfig(size=size, channel_multiplier=2, narrow=_WIDTH)


def grow_from(model: GpenGenerator, small: GpenGenerator) -> None:
    """Give a network the weights of one trained at half its size.

    `model` starts from identity. Its second encoder level sees the reduced picture and takes over
    the small network's first; all coarser levels are the small network's. Its own finest level
    carries the picture, so the small one's identity is taken out of the level below.
    """
    start_from_identity(model)
    trained = small.state_dict()
    state = model.state_dict()
    for name, value in trained.items():
        part, _, rest = name.partition(".")
        level = part.removeprefix("ecd")
        if not level.isdecimal():
            state[name] = value
        elif level != "0":
            state[f"ecd{int(level) + 1}.{rest}"] = value
    entry = trained["ecd0.0.0.weight"][:, :, 0, 0]
    taken = torch.zeros_like(state["ecd1.0.1.weight"])
    # The pair of leaky ReLUs of the entry has the difference sqrt(2) * 1.2 times the colour.
    gain = (taken.shape[1] * 9) ** 0.5 / (3**0.5 * 2**0.5 * 1.2)
    for colour in range(3):
        taken[:, 2 * colour, 1, 1] = entry[:, colour] * gain
        taken[:, 2 * colour + 1, 1, 1] = -entry[:, colour] * gain
    state["ecd1.0.1.weight"] = taken
    state["ecd1.0.2.bias"] = trained["ecd0.0.1.bias"]
    below = f"generator.to_rgbs.{len(small.generator.to_rgbs) - 1}.conv"
    above = f"generator.to_rgbs.{len(small.generator.to_rgbs)}.conv.weight"
    exit_, own = state[f"{below}.weight"].clone(), state[above].clone()
    width, own_width = exit_.shape[2], own.shape[2]
    passed = trained[f"generator.convs.{2 * len(small.generator.to_rgbs) - 1}.noise.weight"]
    for colour in range(3):
        pair = slice(width // 2 + 2 * colour, width // 2 + 2 * colour + 2)
        own_pair = slice(own_width // 2 + 2 * colour, own_width // 2 + 2 * colour + 2)
        # What training has made of the identity's gain goes with it.
        styles = trained[f"{below}.modulation.bias"][pair, None, None]
        learned = exit_[0, colour, pair].abs() * styles
        gain = learned.mean() * passed * entry[2 * colour, colour] / 3**0.5 * _PAIR / width**0.5
        own[0, colour, own_pair] *= gain
        exit_[0, colour, pair] = 0.0
    state[f"{below}.weight"], state[above] = exit_, own
    model.load_state_dict(state)


def restoration_loss(output: Tensor, target: Tensor, valid: Tensor, weight: float) -> Tensor:
    """L1 plus `weight` times the L1 of gradients at three scales; `valid` is `(B, 1, S, S)`."""
    loss = ((output - target).abs() * valid).mean()
    difference = (output - target) * valid
    for _ in range(3):
        across = difference[..., :, 1:] - difference[..., :, :-1]
        down = difference[..., 1:, :] - difference[..., :-1, :]
        loss = loss + weight * (across.abs().mean() + down.abs().mean()) / 3
        difference = F.avg_pool2d(difference, 2)
    return loss


class Trainer:
    """One resumable run in one folder."""

    def __init__(self, faces: Path, run: Path, plan: Plan, *, small: Path | None = None) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.run = run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = GpenGenerator(compact_config(plan.size))
        if small is None:
            start_from_identity(self.model)
        else:
            grow_from(self.model, load_generator(small).model)
        self.model.to(self.device)
        self.mean = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=plan.rate, betas=(0.9, 0.99), fused=True
        )
        self.train_crops = load_crops(faces, "train")
        self.validation_crops = load_crops(faces, "validation")
        self.step = 0
        self._resume()

    def _resume(self) -> None:
        last = self.run / "last.pt"
        if not last.exists():
            return
        state = torch.load(last, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["g"])
        self.mean = state["g_ema"]
        self.optimiser.load_state_dict(state["g_optim"])
        self.step = state["step"]
        _log.info("resumed at step %d", self.step)

    def _save(self) -> None:
        state = {
            "g": self.model.state_dict(),
            "g_ema": self.mean,
            "g_optim": self.optimiser.state_dict(),
            "step": self.step,
        }
        partial = self.run / "last.pt.part"
        torch.save(state, partial)
        partial.replace(self.run / "last.pt")

    def _record(self, loss: float, rate: float) -> None:
        keep = self.model.state_dict()
        keep = {name: value.clone() for name, value in keep.items()}
        self.model.load_state_dict(self.mean)
        self.model.eval()
        scores = score(self.model, self.validation_crops, ("blur_down4_noise_jpeg",))
        self.model.load_state_dict(keep)
        self.model.train()
        row = scores[0]
        _log.info("step %d loss %.4f %.1f samples/s %s", self.step, loss, rate, row)
        with (self.run / "log.csv").open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(
                [self.step, f"{loss:.4f}", f"{rate:.1f}"]
                + [f"{value:.4f}" for value in (row.psnr, row.input_psnr, row.ssim, row.input_ssim)]
            )

    def fit(self) -> None:
        """Train to the plan's last step, saving and scoring on the way."""
        plan = self.plan
        # A new seed after each resumption: the stream can't be rewound, and repeating its start
        # would overfit.
        faces = TrainingFaces(self.train_crops, size=plan.size, seed=plan.seed + self.step)
        loader = iter(DataLoader(faces, batch_size=plan.batch, num_workers=1, prefetch_factor=16))
        self.model.train()
        total, since = 0.0, time.monotonic()
        while self.step < plan.steps:
            total += self._train_on(next(loader))
            if self.step % plan.save_every == 0:
                self._save()
            if self.step % plan.score_every == 0:
                rate = plan.score_every * plan.batch / (time.monotonic() - since)
                self._record(total / plan.score_every, rate)
                total, since = 0.0, time.monotonic()
        self._save()

    def _train_on(self, batch: list[Tensor]) -> float:
        damaged, target, valid = (tensor.to(self.device) for tensor in batch)
        damaged = damaged.contiguous(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.model(damaged)
        loss = restoration_loss(output.float(), target, valid, self.plan.gradient_weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            self.mean[name].lerp_(value, 1 - decay)
        return float(loss.detach())


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="folder with MANIFEST.csv and the crops")
    parser.add_argument("run", type=Path, help="folder for the checkpoint and the log")
    parser.add_argument("--size", type=int, default=Plan().size, help="side of a face in pixels")
    parser.add_argument("--grow-from", type=Path, help="a checkpoint of half the size")
    parser.add_argument("--rate", type=float, default=Plan().rate)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.run.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        size=arguments.size, steps=arguments.steps, rate=arguments.rate, seed=arguments.seed
    )
    Trainer(arguments.faces, arguments.run, plan, small=arguments.grow_from).fit()


if __name__ == "__main__":
    main()
