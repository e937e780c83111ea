"""What decoding one file may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that only a process of its own can be held to; none can be off.

    Attributes:
        seconds: by the clock on the wall.
        memory_bytes: beyond what the child has before it decodes; what it hands back may be as much
            again.
    """

    seconds: float = 120.0
    memory_bytes: int = 8 << 30

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.memory_bytes > 0):  # nor is what is no number
            raise ValueError(f"a budget has to be above 0: {self}")
