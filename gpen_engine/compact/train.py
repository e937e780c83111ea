"""Train gpen-compact: `python -m gpen_engine.compact.train FACES RUN`.

In: a folder of aligned crops. Out: `RUN/last.pt`, rewritten every few hundred steps, from which
the same command goes on after an interruption, and `RUN/log.csv`. The network learns in three
parts: pixels and sharpness first, then identity too, at last against a critic. The weights that
are kept are an exponential moving average.
"""

import argparse
import csv
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gpen_engine.compact.critic import Critic, critic_loss, deception_loss
from gpen_engine.compact.data import TrainingFaces, load_crops
from gpen_engine.compact.identity import load_face_net
from gpen_engine.compact.losses import (
    IdentityLoss,
    colour_loss,
    pixel_loss,
    sharpness_loss,
    structure_loss,
)
from gpen_engine.compact.optimise import Optimiser
from gpen_engine.compact.scores import HEADLINE, score
from gpen_engine.compact.start import compact_config, start_from_identity
from gpen_engine.model import GpenGenerator

_SCORED_EVERY = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of one training run.

    Attributes:
        size: side of a face in pixels.
        steps: how many in all.
        batch: faces a step.
        warmup: steps over which the rate rises.
        decay_from: the share of the run after which the rate falls.
        ema: how much of the average stays at each step.
        pixel_weight: of the loss that asks for the truth's pixels.
        colour_weight: of the loss that asks for the truth's colours.
        structure_weight: of the loss that asks for the truth's structure (SSIM).
        sharpness_weight: of the loss that asks for as strong gradients as the truth has.
        identity_from: the step from which the recognition network takes part; None for never.
        identity_weight: of its loss.
        critic_from: the step from which the critic takes part; None for never.
        critic_weight: of its verdict.
        compiled: True to train through `torch.compile`: half as fast again on a CPU, and wants a
            C++ compiler.
        seed: of the weights, the samples and their damage.
    """

    size: int = 256
    steps: int = 7_000
    batch: int = 6
    warmup: int = 30
    decay_from: float = 0.55
    ema: float = 0.998
    pixel_weight: float = 1.0
    colour_weight: float = 0.0
    structure_weight: float = 0.0
    sharpness_weight: float = 0.3
    identity_from: int | None = None
    identity_weight: float = 0.03
    critic_from: int | None = None
    critic_weight: float = 0.01
    save_every: int = 100
    score_every: int = 500
    compiled: bool = False
    seed: int = 7

    def factor_at(self, step: int) -> float:
        """Rising over the warm-up, constant, then falling linearly to a fiftieth."""
        start = self.decay_from * self.steps
        done = max(0.0, (step - start) / max(1.0, self.steps - start))
        return min(1.0, (step + 1) / self.warmup) * (1.0 - 0.98 * min(1.0, done))


class Trainer:
    """One resumable run in one folder."""

    def __init__(self, faces: Path, run: Path, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.run = run
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = GpenGenerator(compact_config(plan.size))
        start_from_identity(self.model)
        self.model.to(self.device)
        self.network = torch.compile(self.model) if plan.compiled else self.model
        self.mean = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = Optimiser(self.model)
        self.identity: IdentityLoss | None = None
        if plan.identity_from is not None:
            self.identity = IdentityLoss(load_face_net().to(self.device))
        self.critic = Critic().to(self.device)
        self.critic_optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=3e-4, betas=(0.5, 0.99)
        )
        self.train_crops = load_crops(faces, "train")
        self.validation_crops = load_crops(faces, "validation")[::_SCORED_EVERY]
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
        self.critic.load_state_dict(state["d"])
        self.critic_optimiser.load_state_dict(state["d_optim"])
        self.step = state["step"]
        _log.info("resumed at step %d", self.step)

    def _save(self) -> None:
        state = {
            "g": self.model.state_dict(),
            "g_ema": self.mean,
            "g_optim": self.optimiser.state_dict(),
            "d": self.critic.state_dict(),
            "d_optim": self.critic_optimiser.state_dict(),
            "step": self.step,
        }
        partial = self.run / "last.pt.part"
        torch.save(state, partial)
        partial.replace(self.run / "last.pt")

    def _record(self, loss: float, rate: float) -> None:
        keep = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.mean)
        self.model.eval()
        (row,) = score(self.model, self.validation_crops, (HEADLINE,))
        self.model.load_state_dict(keep)
        self.model.train()
        _log.info("step %d loss %.4f %.1f samples/s %s", self.step, loss, rate, row)
        log = self.run / "log.csv"
        new = not log.exists()
        with log.open("a", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            if new:
                table.writerow(_COLUMNS)
            scores = (row.psnr, row.input_psnr, row.ssim, row.input_ssim)
            table.writerow(
                [self.step, self.step * self.plan.batch, f"{loss:.4f}", f"{rate:.1f}"]
                + [f"{value:.4f}" for value in scores]
            )

    def fit(self) -> None:
        """Train to the plan's last step, saving and scoring on the way."""
        plan = self.plan
        # A new seed after each resumption: the stream can't be rewound, and repeating its start
        # would overfit.
        faces = TrainingFaces(self.train_crops, size=plan.size, seed=plan.seed + self.step)
        loader = iter(DataLoader(faces, batch_size=plan.batch, num_workers=1, prefetch_factor=4))
        self.model.train()
        total, first, since = 0.0, self.step, time.monotonic()
        while self.step < plan.steps:
            total += self._train_on(next(loader))
            if self.step % plan.save_every == 0:
                self._save()
            if self.step % plan.score_every == 0:
                done = self.step - first
                rate = done * plan.batch / (time.monotonic() - since)
                self._record(total / done, rate)
                total, first, since = 0.0, self.step, time.monotonic()
        self._save()

    def _train_on(self, batch: list[Tensor]) -> float:
        damaged, *truth = (tensor.to(self.device) for tensor in batch)
        damaged = damaged.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.network(damaged).float()
            loss = self._loss(output, damaged, *truth)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step(self.plan.factor_at(self.step))
        self.step += 1
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            self.mean[name].lerp_(value, 1 - decay)
        return float(loss.detach())

    def _loss(
        self, output: Tensor, damaged: Tensor, target: Tensor, valid: Tensor, resolved: Tensor
    ) -> Tensor:
        plan = self.plan
        loss = plan.pixel_weight * pixel_loss(output, target, valid)
        if plan.colour_weight:
            loss = loss + plan.colour_weight * colour_loss(output, target, valid)
        if plan.structure_weight:
            loss = loss + plan.structure_weight * structure_loss(output, target, valid)
        loss = loss + plan.sharpness_weight * sharpness_loss(output, target, valid, resolved)
        if self.identity is not None and _due(plan.identity_from, self.step):
            loss = loss + plan.identity_weight * self.identity(output, damaged, target, valid)
        if _due(plan.critic_from, self.step):
            seen = output * valid + target * (1 - valid)
            self._teach_critic(seen, target)
            loss = loss + plan.critic_weight * deception_loss(self.critic, seen)
        return loss

    def _teach_critic(self, output: Tensor, target: Tensor) -> None:
        self.critic.requires_grad_(True)
        self.critic_optimiser.zero_grad(set_to_none=True)
        critic_loss(self.critic, output, target).backward()  # type: ignore[no-untyped-call]
        self.critic_optimiser.step()
        self.critic.requires_grad_(False)


_COLUMNS = (
    "step", "samples", "loss", "samples_per_second", "psnr", "input_psnr", "ssim", "input_ssim"
)  # fmt: skip


def _due(start: int | None, step: int) -> bool:
    return start is not None and step >= start


def main() -> None:
    """Parse the command line and train."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="folder with MANIFEST.csv and the crops")
    parser.add_argument("run", type=Path, help="folder for the checkpoint and the log")
    parser.add_argument("--size", type=int, default=plan.size, help="side of a face in pixels")
    parser.add_argument("--steps", type=int, default=plan.steps)
    parser.add_argument("--batch", type=int, default=plan.batch)
    parser.add_argument("--pixel-weight", type=float, default=plan.pixel_weight)
    parser.add_argument("--colour-weight", type=float, default=plan.colour_weight)
    parser.add_argument("--structure-weight", type=float, default=plan.structure_weight)
    parser.add_argument("--sharpness-weight", type=float, default=plan.sharpness_weight)
    parser.add_argument("--identity-from", type=int, help="step from which identity counts")
    parser.add_argument("--identity-weight", type=float, default=plan.identity_weight)
    parser.add_argument("--critic-from", type=int, help="step from which the critic takes part")
    parser.add_argument("--critic-weight", type=float, default=plan.critic_weight)
    parser.add_argument("--compiled", action="store_true", help="use torch.compile")
    parser.add_argument("--seed", type=int, default=plan.seed)
    arguments = vars(parser.parse_args())
    faces, run = arguments.pop("faces"), arguments.pop("run")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run.mkdir(parents=True, exist_ok=True)
    Trainer(faces, run, Plan(**arguments)).fit()


if __name__ == "__main__":
    main()
