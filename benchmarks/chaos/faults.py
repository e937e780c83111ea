"""What goes wrong: a plan drawn from a seed, and how each fault is done to a site.

A fault begins, lasts some seconds, and ends. Every kind comes at least once where there are enough
of them.
"""

import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import redis

from benchmarks.chaos.audit import DEATH, GIVEN_BACK
from benchmarks.chaos.clock import set_clock
from benchmarks.chaos.site import LANES, LEASE_S, Site, can_mount
from jobs.errors import ClaimLost, StoreFull, StoreUnavailable


class Kind(StrEnum):
    """What may go wrong."""

    KILL_WORKER = "worker killed"
    KILL_DISPATCH = "dispatch killed"
    KILL_BROKER = "broker killed"
    KILL_DATABASE = "database killed"
    KILL_STORE = "store killed"
    EMPTY_BROKER = "broker emptied"
    STALL_BROKER = "network to the broker stalls"
    STALL_DATABASE = "network to the database stalls"
    STALL_STORE = "network to the store stalls"
    FREEZE_WORKER = "worker frozen beyond its lease"
    CUT_WORKER = "worker's network to the database stalls beyond its lease"
    FILL_DISK = "disk full"
    STEP_CLOCK = "clock stepped"


_KILLS = {
    Kind.KILL_DISPATCH: "dispatch",
    Kind.KILL_BROKER: "broker",
    Kind.KILL_DATABASE: "database",
    Kind.KILL_STORE: "store",
}
_STALLS = {
    Kind.STALL_BROKER: "broker",
    Kind.STALL_DATABASE: "database",
    Kind.STALL_STORE: "store",
}
_COSTS_ITS_WORKER = {
    Kind.KILL_WORKER: DEATH,
    Kind.FREEZE_WORKER: ClaimLost.__name__,
    Kind.CUT_WORKER: ClaimLost.__name__,
}
_COSTS_ALL_WORKERS = {
    Kind.KILL_DATABASE: (ClaimLost.__name__,),
    Kind.STALL_DATABASE: (ClaimLost.__name__,),
    Kind.KILL_STORE: 2 * (StoreUnavailable.__name__,),
    Kind.STALL_STORE: (StoreUnavailable.__name__,),
    Kind.FILL_DISK: (StoreFull.__name__, StoreUnavailable.__name__, GIVEN_BACK),
}
"""What ends the calls of the engine that are in hand; those of other kinds come to their end. A
killed store may take longer to start again than a photo to be tried again."""
_LONGEST_S = 2.5
_STEPS_S = (-3600.0, 3600.0, 86_400.0)
_FILL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, in one place, for a while; 0 s: until a worker ends of it."""

    kind: Kind
    target: str
    seconds: float
    step_s: float = 0.0  # how far a clock is set

    def __str__(self) -> str:
        step = f", {self.step_s:+.0f} s" if self.step_s else ""
        where = f" ({self.target}{step})" if self.target else ""
        length = f"for {self.seconds:.1f} s" if self.seconds else "until a worker ends of it"
        return f"{self.kind}{where} {length}"

    def may_cost(self, workers: int) -> Counter[str]:
        """Return how many calls of the engine it may cost, by what ends them, lane by lane."""
        costs = Counter(_COSTS_ALL_WORKERS.get(self.kind, ()) * (LANES * workers))
        if self.kind in _COSTS_ITS_WORKER:
            costs[_COSTS_ITS_WORKER[self.kind]] = LANES
        return costs


def draw_faults(count: int, *, workers: list[str], draw: random.Random) -> list[Fault]:
    """Return the plan: every kind once, in any order, the others by chance."""
    kinds = [kind for kind in Kind if kind is not Kind.FILL_DISK or can_mount()]
    chosen = draw.sample(kinds, len(kinds)) + draw.choices(kinds, k=max(0, count - len(kinds)))
    chosen = chosen[:count]
    draw.shuffle(chosen)
    return [_draw_fault(kind, workers, draw) for kind in chosen]


def begin(fault: Fault, site: Site) -> Callable[[], None]:
    """Let a fault begin; return what ends it."""
    part = site.parts.get(fault.target)
    match fault.kind:
        case Kind.EMPTY_BROKER:
            _empty(site)
        case Kind.FILL_DISK:
            return _fill(site.disk / "filler")
        case Kind.STEP_CLOCK:
            file = site.clock_file(fault.target)
            set_clock(file, fault.step_s)
            return lambda: set_clock(file, 0)
        case Kind.FREEZE_WORKER if part:
            part.send(signal.SIGSTOP)
            return lambda: part.send(signal.SIGCONT)
        case kind if kind in _STALLS or kind is Kind.CUT_WORKER:
            gate = site.gates[fault.target]
            gate.close()
            return gate.open
        case _ if part:
            part.kill(down_s=fault.seconds)
    return lambda: None


def _draw_fault(kind: Kind, workers: list[str], draw: random.Random) -> Fault:
    seconds = draw.uniform(0, _LONGEST_S)
    worker, step_s = draw.choice(workers), draw.choice(_STEPS_S)
    if kind in _KILLS or kind in _STALLS:
        return Fault(kind, (_KILLS | _STALLS)[kind], seconds)
    if kind in (Kind.FREEZE_WORKER, Kind.CUT_WORKER):
        return Fault(kind, worker, LEASE_S + seconds)
    if kind is Kind.STEP_CLOCK:
        return Fault(kind, worker, seconds, step_s)
    if kind is Kind.FILL_DISK:
        return Fault(kind, "", seconds=0)
    return Fault(kind, worker if kind is Kind.KILL_WORKER else "", seconds)


def _empty(site: Site) -> None:
    """Empty the broker as a careless hand would: no connection breaks."""
    with redis.Redis.from_url(site.valkey.url) as client, suppress(redis.RedisError):
        client.flushall()


def _fill(file: Path) -> Callable[[], None]:
    """Fill the disk; return what frees it again."""
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(_FILL_BYTES))
    with suppress(OSError), file.open("ab", buffering=0) as filler:
        while True:
            filler.write(b"0")
    return file.unlink
