"""Faces of several threads share forward passes, and each thread gets its own back."""

import threading
import time
from collections import deque

import pytest
import torch

from gpen_engine.batch import Answer, FaceBatcher
from gpen_engine.errors import DeviceError, OutOfMemory
from gpen_engine.precision import Precision


class Passes:
    """A forward pass that doubles, and remembers its batches; it can be held up."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.batches: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.entered = threading.Event()

    def __call__(self, faces):
        self.entered.set()
        self.may_go_on.wait(10)
        if len(faces) > self.room:
            raise OutOfMemory(f"{len(faces)} don't fit")
        self.batches.append(len(faces))
        return [Answer(face * 2, Precision.FP32) for face in faces]


class Limit:
    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __call__(self) -> int:
        return self.batch

    def shrink(self, failed: int) -> bool:
        self.batch = max(1, failed // 2)
        return failed > 1


def make(forward, batch: int = 4) -> FaceBatcher:
    limit = Limit(batch)
    return FaceBatcher(forward, limit=limit, shrink=limit.shrink, device=threading.Lock())


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def faces(*values: float) -> list[torch.Tensor]:
    return [torch.full((3, 2, 2), float(value)) for value in values]


def test_every_face_gets_its_own_answer_in_order():
    forward = Passes()

    answers = make(forward).restore(faces(1, 2, 3, 4, 5, 6))

    assert [float(answer.face.mean()) for answer in answers] == [2, 4, 6, 8, 10, 12]
    assert forward.batches == [4, 2]


def test_no_faces_need_no_pass():
    forward = Passes()

    assert make(forward).restore([]) == []
    assert forward.batches == []


def test_faces_of_threads_that_wait_share_a_pass():
    forward = Passes()
    batcher = make(forward, batch=8)
    results = {}

    def work(name: int) -> None:
        results[name] = batcher.restore(faces(name, name + 0.5))

    forward.may_go_on.clear()
    threads = [threading.Thread(target=work, args=(name,)) for name in range(1, 5)]
    threads[0].start()
    assert forward.entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: len(batcher._waiting) == 6)
    forward.may_go_on.set()
    for thread in threads:
        thread.join(10)

    assert forward.batches == [2, 6]
    for name, answers in results.items():
        assert [float(answer.face.mean()) for answer in answers] == [2 * name, 2 * name + 1]


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_that_is_noted():
    forward = Passes(room=2)
    batcher = make(forward, batch=8)

    answers = batcher.restore(faces(*range(1, 9)))

    assert forward.batches == [2, 2, 2, 2]
    assert [float(answer.face.mean()) for answer in answers] == [2 * n for n in range(1, 9)]
    assert all("out of memory with" in answer.note for answer in answers)
    assert batcher.restore(faces(1))[0].note == ""


def test_a_single_face_that_does_not_fit_is_an_error_and_the_next_one_has_another_chance():
    forward = Passes(room=0)
    batcher = make(forward)
    with pytest.raises(OutOfMemory):
        batcher.restore(faces(1, 2))

    forward.room = 1

    assert float(batcher.restore(faces(3))[0].face.mean()) == 6


def test_an_error_reaches_every_thread_whose_faces_were_in_the_batch():
    entered, go = threading.Event(), threading.Event()

    def failing(batch):
        entered.set()
        go.wait(10)
        raise DeviceError(f"broke with {len(batch)}")

    batcher = make(failing, batch=8)
    errors = []

    def work() -> None:
        try:
            batcher.restore(faces(1))
        except DeviceError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: len(batcher._waiting) == 2)
    go.set()
    for thread in threads:
        thread.join(10)

    assert sorted(errors) == ["broke with 1", "broke with 2", "broke with 2"]


def test_a_thread_that_gives_up_does_not_take_its_faces_from_under_anothers_hands(monkeypatch):
    counted, withdrawn = threading.Event(), threading.Event()

    class Watched(deque):
        """Lets the other thread in between counting and taking."""

        def popleft(self):
            if threading.current_thread() is other:
                counted.set()
                withdrawn.wait(0.5)
            return super().popleft()

    def moody(batch):
        if (batch < 0).any():
            limit.batch = 8
            other.start()
            raise DeviceError("not this one")
        return Passes()(batch)

    limit = Limit(1)
    batcher = FaceBatcher(moody, limit=limit, shrink=limit.shrink, device=threading.Lock())
    batcher._waiting = Watched()
    withdraw = batcher._withdraw

    def withdraw_late(requests):
        counted.wait(0.5)
        withdraw(requests)
        withdrawn.set()

    monkeypatch.setattr(batcher, "_withdraw", withdraw_late)
    results = []
    other = threading.Thread(target=lambda: results.extend(batcher.restore(faces(3))), daemon=True)

    with pytest.raises(DeviceError):
        batcher.restore(faces(-1, 1, 1))
    other.join(10)

    assert [float(answer.face[0, 0, 0]) for answer in results] == [6.0]
