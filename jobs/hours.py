"""The hours of the day in which a job may run: `22:00-06:00` goes in, open or closed comes out.

Hours are those on the wall: a night in which the clocks are changed is an hour longer or shorter,
and an opening in the hour that is left out comes at its end.
"""

import re
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final, Literal

Always = Literal["always"]
ALWAYS: Final[Always] = "always"
_TIME = r"(?:([01]?\d|2[0-3]):([0-5]\d)|24:00)"
_HOURS = re.compile(rf"\s*{_TIME}\s*-\s*{_TIME}\s*")


@dataclass(frozen=True, slots=True)
class Hours:
    """From `begin` to `end`, which is the next morning where it comes earlier."""

    begin: time
    end: time

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read `22:00-06:00`.

        Raises:
            ValueError: it isn't of this form, or the two are the same.
        """
        found = _HOURS.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} isn't of the form 22:00-06:00")
        first, second, third, fourth = (int(part or 0) for part in found.groups())
        hours = cls(time(first, second), time(third, fourth))
        if hours.begin == hours.end:
            raise ValueError(f"{text!r} begins and ends at once")
        return hours

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"

    def is_open(self, moment: datetime) -> bool:
        """Tell whether a moment, by the wall clock it carries, is within the hours."""
        wall = moment.time()
        if self.begin < self.end:
            return self.begin <= wall < self.end
        return wall >= self.begin or wall < self.end
