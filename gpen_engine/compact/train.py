"""Train gpen-compact: `python -m gpen_engine.compact.train FACES RUN`.

In: a folder of aligned crops. Out: `RUN/last.pt`, from which the same command goes on after an
interruption; at each scoring a row of `RUN/log.csv` and `RUN/mean-NNNNN.pt`, the averaged weights,
which `gpen_engine.compact.export` reads; at each start a line of `RUN/plans.jsonl`, the step, the
plan and the program, for a run may be resumed with others. Exit code 2 when nothing can be trained.

What is minimised is a weighted sum: pixels, colours, structure, sharpness, likeness and, on
request, a critic's verdict. The weights that are kept are an exponential moving average.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gpen_engine.compact.critic import Critic, critic_loss, deception_loss
from gpen_engine.compact.data import TrainingFaces, load_crops
from gpen_engine.compact.identity import load_face_net
from gpen_engine.compact.journal import note_scores, note_start
from gpen_engine.compact.losses import (
    IdentityLoss,
    colour_loss,
    pixel_loss,
    sharpness_loss,
    structure_loss,
)
from gpen_engine.compact.optimise import Optimiser
from gpen_engine.compact.scores import HEADLINE, Describe, Row, average, measure
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
        save_every: steps between two writings of `last.pt`.
        score_every: steps between two scorings of the averaged weights.
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
    pixel_weight: float = 0.5
    colour_weight: float = 60.0
    structure_weight: float = 4.0
    sharpness_weight: float = 7.0
    identity_from: int | None = 0
    identity_weight: float = 4.5
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
        return min(1.0, (step + 1) / max(1, self.warmup)) * (1.0 - 0.98 * min(1.0, done))


class Trainer:
    """One resumable run in one folder."""

    def __init__(self, faces: Path, run: Path, plan: Plan) -> None:
        """Build everything anew, or as `last.pt` in `run` has it.

        Raises:
            FileNotFoundError: `faces` has no manifest, or the plan has identity and its package
                isn't installed.
            ManifestError: the manifest isn't as it should be, or has no crops of one part.
            ValueError: no network has the plan's size, or `run` was begun with faces of another.
        """
        self.train_crops = load_crops(faces, "train")
        self.validation_crops = load_crops(faces, "validation")[::_SCORED_EVERY]
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
        self.describe: Describe | None = None
        if plan.identity_from is not None:
            net = load_face_net().to(self.device)
            self.identity = IdentityLoss(net)
            self.describe = lambda faces: net(faces.to(self.device))
        self.critic = Critic().to(self.device).requires_grad_(False)
        self.critic_optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=3e-4, betas=(0.5, 0.99)
        )
        self.step = self.samples = 0
        self._resume()

    def _resume(self) -> None:
        last = self.run / "last.pt"
        if not last.exists():
            return
        state = torch.load(last, map_location=self.device, weights_only=True)
        # The first runs saved no plan.
        begun = state.get("plan", {})
        size = begun.get("size", self.plan.size)
        if size != self.plan.size:
            raise ValueError(
                f"{last} is of faces of {size} px, not {self.plan.size}: "
                f"resume it with --size {size}, or train in another folder"
            )
        self.model.load_state_dict(state["g"])
        self.mean = state["g_ema"]
        self.optimiser.load_state_dict(state["g_optim"])
        self.critic.load_state_dict(state["d"])
        self.critic_optimiser.load_state_dict(state["d_optim"])
        self.step = state["step"]
        # Nor did the first ones save a count of samples.
        self.samples = state.get("samples", self.step * begun.get("batch", self.plan.batch))
        _log.info("resumed at step %d", self.step)

    def _state(self) -> dict[str, Any]:
        return {
            "g": self.model.state_dict(),
            "g_ema": self.mean,
            "g_optim": self.optimiser.state_dict(),
            "d": self.critic.state_dict(),
            "d_optim": self.critic_optimiser.state_dict(),
            "step": self.step,
            "samples": self.samples,
            "plan": asdict(self.plan),
        }

    def _write(self, name: str, state: Mapping[str, Any]) -> None:
        partial = self.run / f"{name}.part"
        torch.save(state, partial)
        partial.replace(self.run / name)

    def _record(self, loss: float, rate: float) -> None:
        self._write(f"mean-{self.step:05d}.pt", {"g_ema": self.mean, "step": self.step})
        row = self._score()
        _log.info("step %d loss %.4f %.1f samples/s %s", self.step, loss, rate, row.restored)
        note_scores(self.run, step=self.step, samples=self.samples, loss=loss, rate=rate, row=row)

    def _score(self) -> Row:
        keep = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.mean)
        self.model.eval()
        scores = measure(self.model, self.validation_crops, [HEADLINE], describe=self.describe)
        self.model.load_state_dict(keep)
        self.model.train()
        return average(scores)

    def fit(self) -> None:
        """Train to the plan's last step, scoring and saving on the way and at the end.

        Raises:
            FloatingPointError: the loss or its gradient isn't finite; nothing is saved after it.
        """
        plan = self.plan
        note_start(self.run, self.step, asdict(plan))
        # A new seed after each resumption: the stream can't be rewound, and repeating its start
        # would overfit.
        faces = TrainingFaces(self.train_crops, size=plan.size, seed=plan.seed + self.step)
        loader = iter(DataLoader(faces, batch_size=plan.batch, num_workers=1, prefetch_factor=4))
        self.model.train()
        total, first, since = 0.0, self.step, time.monotonic()
        while self.step < plan.steps:
            total += self._train_on(next(loader))
            if self._is_due(plan.score_every):
                done = self.step - first
                self._record(total / done, done * plan.batch / (time.monotonic() - since))
                total, first, since = 0.0, self.step, time.monotonic()
            # Scored first: a run killed while it is scored comes to this step again.
            if self._is_due(plan.save_every):
                self._write("last.pt", self._state())

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.plan.steps

    def _train_on(self, batch: list[Tensor]) -> float:
        damaged, target, valid, resolved = (tensor.to(self.device) for tensor in batch)
        damaged = damaged.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.network(damaged).float()
            loss = self._loss(output, damaged, target, valid, resolved)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not (loss + norm).isfinite():
            raise FloatingPointError(
                f"step {self.step} has a loss of {loss.item():g}, a gradient of {norm.item():g}: "
                "it isn't saved; resume from last.pt, with smaller weights of the losses"
            )
        self.optimiser.step(self.plan.factor_at(self.step))
        if _begun(self.plan.critic_from, self.step):
            self._teach_critic(_shown(output, target, valid), target)
        self.step += 1
        self.samples += len(damaged)
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            self.mean[name].lerp_(value, 1 - decay)
        return float(loss.detach())

    def _loss(
        self, output: Tensor, damaged: Tensor, target: Tensor, valid: Tensor, resolved: Tensor
    ) -> Tensor:
        plan = self.plan
        loss = plan.pixel_weight * pixel_loss(output, target, valid)
        loss = loss + plan.colour_weight * colour_loss(output, target, valid)
        loss = loss + plan.structure_weight * structure_loss(output, target, valid)
        loss = loss + plan.sharpness_weight * sharpness_loss(output, target, valid, resolved)
        if self.identity is not None and _begun(plan.identity_from, self.step):
            loss = loss + plan.identity_weight * self.identity(output, damaged, target, valid)
        if _begun(plan.critic_from, self.step):
            shown = _shown(output, target, valid)
            loss = loss + plan.critic_weight * deception_loss(self.critic, shown)
        return loss

    def _teach_critic(self, shown: Tensor, target: Tensor) -> None:
        self.critic.requires_grad_(True)
        self.critic_optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = critic_loss(self.critic, shown, target)
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic_optimiser.step()
        self.critic.requires_grad_(False)


def _begun(start: int | None, step: int) -> bool:
    return start is not None and step >= start


def _shown(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return what the critic looks at: the truth, where the photograph had ended."""
    return output * valid + target * (1 - valid)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train; return the exit code."""
    asked = vars(_parser().parse_args(arguments))
    faces, run = asked.pop("faces"), asked.pop("run")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        trainer = Trainer(faces, run, Plan(**asked))
        run.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - as argparse says what is wrong
        return 2
    trainer.fit()
    return 0


def _parser() -> argparse.ArgumentParser:
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="folder with MANIFEST.csv and the crops")
    parser.add_argument("run", type=Path, help="folder for the checkpoints and the log")
    parts = ("pixel", "colour", "structure", "sharpness", "identity", "critic")
    weights = [f"{part}_weight" for part in parts]
    for name in ("size", "steps", "batch", "warmup", "seed", "decay_from", "ema", *weights):
        default = getattr(plan, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    identity = parser.add_mutually_exclusive_group()
    identity.add_argument(
        "--identity-from", type=int, default=plan.identity_from, help="step from which it counts"
    )
    identity.add_argument(
        "--no-identity", dest="identity_from", action="store_const", const=None, help="never"
    )
    parser.add_argument("--critic-from", type=int, help="step from which the critic takes part")
    parser.add_argument("--compiled", action="store_true", help="use torch.compile")
    return parser


if __name__ == "__main__":
    sys.exit(main())
