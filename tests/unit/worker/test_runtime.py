import pytest

import worker.runtime
from gpen_engine.memory import Budget
from jobs.memory import MemoryClass
from jobs.migrate import migrate
from jobs.settings import JobSettings
from worker.runtime import build_runtime
from worker.settings import WorkerSettings


@pytest.fixture
def queues(monkeypatch, tmp_path):
    """Return what a worker takes whose card and machine have so much memory."""

    def build(card_gib, machine_gib, *, queues=None, vram_limit=None):
        rooms = {"cpu": machine_gib, "cuda:0": card_gib}
        monkeypatch.setattr(worker.runtime, "load_engine", lambda _: None)
        monkeypatch.setattr(worker.runtime, "pick_device", lambda name: name)
        monkeypatch.setattr(
            worker.runtime, "measure_budget", lambda name: Budget(0, rooms[name] << 30, "test")
        )
        url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
        migrate(url)
        settings = JobSettings(database_url=url, queues=queues)
        runtime = build_runtime(settings, WorkerSettings(device="cuda:0", vram_limit=vram_limit))
        runtime.decode.close()
        runtime.ledger.close()
        return " ".join(runtime.queues)

    return build


def test_a_worker_takes_the_photos_that_its_card_has_room_for(queues):
    assert queues(card_gib=2, machine_gib=64) == "small"
    assert queues(card_gib=24, machine_gib=64) == "small medium large"


def test_a_limit_of_the_cards_memory_counts_as_its_size(queues):
    assert queues(card_gib=24, machine_gib=64, vram_limit=6 << 30) == "small medium"


def test_a_large_card_in_a_small_machine_takes_what_the_machine_has_room_for(queues):
    assert queues(card_gib=24, machine_gib=8) == "small medium"


def test_a_worker_that_was_told_its_queues_takes_them_whatever_its_card(queues):
    assert queues(card_gib=2, machine_gib=4, queues=(MemoryClass.LARGE,)) == "large"
