"""What a run came to, as numbers and as text."""

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.audit import DEATH
from benchmarks.chaos.faults import Fault
from worker.exits import ENVIRONMENT

KILLED = -signal.SIGKILL
_STARTING = -signal.SIGTERM  # told to end, at the end of the night, before it listens to that
_EXPECTED_CODES = {0, ENVIRONMENT, KILLED, _STARTING}


@dataclass
class Report:
    """The counts of a run; of a faultless one `wrong` has only empty lists."""

    seed: int
    photos: int
    workers: int
    lanes: int
    stub_s: float
    load_before: float = 0.0
    load_after: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    deaths_by_photos: int = 0
    elapsed_s: float = 0.0
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    redone: int = 0
    wasted: Counter[str] = field(default_factory=Counter)
    """Calls of the engine that led nowhere, by what ended them."""
    wasted_at_most: Counter[str] = field(default_factory=Counter)
    """Likewise: what the faults may cost."""
    repeated_messages: int = 0
    """Messages that came for a photo in work, or finished, and ended quietly."""
    repeated_while_slow: int = 0
    """Of these, for photos that take longer than the visibility timeout."""
    ends: dict[str, Counter[int]] = field(default_factory=dict)
    """How often each program ended, by exit code, the end of the night included."""
    killed_at_most: int = 0

    def allow(self, plan: Sequence[Fault], *, kills: int) -> None:
        """Work out what the faults, and the photos that kill, may have cost.

        Args:
            plan: the faults.
            kills: so many programs were killed for them.
        """
        for fault in plan:
            self.wasted_at_most.update(fault.may_cost(self.workers))
        self.wasted_at_most[DEATH] += self.lanes * self.deaths_by_photos
        self.killed_at_most = kills + self.deaths_by_photos

    def excesses(self) -> list[str]:
        """Return what was lost, or ended, without a fault that would be the cause."""
        codes = sum(self.ends.values(), Counter[int]())
        odd = [
            f"{codes[code]} programs ended with {code}" for code in codes.keys() - _EXPECTED_CODES
        ]
        if codes[KILLED] > self.killed_at_most:
            odd.append(f"{codes[KILLED]} programs were killed, {self.killed_at_most} by a fault")
        return odd + [
            f"{calls} calls of the engine lost by {cause}, {self.wasted_at_most[cause]} by a fault"
            for cause, calls in self.wasted.items()
            if calls > self.wasted_at_most[cause]
        ]

    @property
    def passed(self) -> bool:
        """Whether every photo is accounted for, and nothing was lost that no fault had touched."""
        return not any(self.wrong.values()) and not self.excesses()

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return vars(self) | {"excesses": self.excesses(), "passed": self.passed}

    def as_text(self) -> str:
        """Return the counts, a line each, then what is wrong."""
        lines = [
            f"{self.photos} photos, {self.workers} workers of {self.lanes} lanes, an engine of "
            f"{self.stub_s} s, seed {self.seed}, {self.elapsed_s:.0f} s, load "
            f"{self.load_before:.1f} before and {self.load_after:.1f} after",
            f"{self.faults.total()} faults: {_told(self.faults)}",
            f"{self.deaths_by_photos} deaths of workers by a photo",
            *(f"{name} ended with {_told(codes)}" for name, codes in self.ends.items() if codes),
            f"{self.done} done; failed: {_told(self.failed)}",
            *(f"{len(found)} {what}" for what, found in self.wrong.items()),
            f"{self.redone} photos redone; calls that led nowhere:",
            *(
                f"  {calls} by {cause}, {self.wasted_at_most[cause]} allowed"
                for cause, calls in self.wasted.items()
            ),
            f"{self.repeated_messages} repeated messages ended quietly, "
            f"{self.repeated_while_slow} of them for a slow photo in work",
            *(f"WRONG, {what}: {each}" for what, found in self.wrong.items() for each in found),
            *(f"WRONG: {what}" for what in self.excesses()),
            "passed" if self.passed else "FAILED",
        ]
        return "\n".join(lines)


def _told(counts: Counter[str] | Counter[int]) -> str:
    """Return counts as text: `2 of "worker killed"` is `2 worker killed`, an exit code likewise."""
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "none"
