"""What a run came to, as numbers and as text."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """The counts of a run; of a faultless one `wrong` has only empty lists."""

    seed: int
    photos: int
    workers: int
    lanes: int
    faults: Counter[str] = field(default_factory=Counter)
    deaths_by_photos: int = 0
    elapsed_s: float = 0.0
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    redone: int = 0
    redone_at_most: int = 0
    """A photo for each lane that a fault touched."""
    wasted: Counter[str] = field(default_factory=Counter)
    """Calls of the engine that led nowhere, by what ended them."""
    most_at_a_death: int = 0
    repeated_messages: int = 0
    """Messages that came for a photo in work, or finished, and ended quietly."""
    repeated_while_slow: int = 0
    """Of these, for photos that take longer than the visibility timeout."""
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every photo is accounted for, and no more was done again than had to be."""
        return (
            not any(self.wrong.values())
            and self.redone <= self.redone_at_most
            and self.most_at_a_death <= self.lanes
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return vars(self) | {"passed": self.passed}

    def as_text(self) -> str:
        """Return the counts, a line each, then what is wrong."""
        lines = [
            f"{self.photos} photos, {self.workers} workers of {self.lanes} lanes, "
            f"seed {self.seed}, {self.elapsed_s:.0f} s",
            f"{self.faults.total()} faults: {_told(self.faults)}",
            f"{self.deaths_by_photos} deaths of workers by a photo; restarts: "
            f"{_told(self.restarts)}",
            f"{self.done} done; failed: {_told(self.failed)}",
            *(f"{len(found)} {what}" for what, found in self.wrong.items()),
            f"{self.redone} photos redone, {self.redone_at_most} allowed; calls that led nowhere: "
            f"{_told(self.wasted)}; at most {self.most_at_a_death} at one death",
            f"{self.repeated_messages} repeated messages ended quietly, "
            f"{self.repeated_while_slow} of them for a slow photo in work",
            *(f"WRONG, {what}: {each}" for what, found in self.wrong.items() for each in found),
            "passed" if self.passed else "FAILED",
        ]
        return "\n".join(lines)


def _told(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "none"
