import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from producer import leash
from producer.child import Child
from producer.stop import StopRequest

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
POLITE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("up", flush=True)
signal.pause()
"""
PARENT = """
import sys, time
from pathlib import Path
from producer.child import Child
Child([sys.executable, "-c", "import time; time.sleep(60)"], log=Path(sys.argv[1]))
time.sleep(60)
"""


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "child.log"


@pytest.fixture
def start(log):
    started = []

    def start(code: str, **options) -> Child:
        started.append(Child([sys.executable, "-c", code], log=log, **options))
        return started[-1]

    yield start
    for child in started:
        child.stop(grace_s=0)


def test_a_child_writes_to_its_log_and_tells_its_status(start, log, eventually):
    child = start("print('hello'); raise SystemExit(7)")
    eventually(lambda: child.exit_status is not None)
    assert child.exit_status == 7
    assert log.read_text() == "hello\n"


def test_its_last_words_are_the_last_error_it_logged(start, eventually):
    child = start("print('x INFO a'); print('x ERROR worker.unfit code=5'); print('bye'); print()")
    eventually(lambda: child.exit_status is not None)
    assert child.last_words == "worker.unfit code=5"


def test_without_an_error_its_last_words_are_its_last_line(start, eventually):
    child = start("print('one'); print('two'); print()")
    eventually(lambda: child.exit_status is not None)
    assert child.last_words == "two"


def test_its_last_words_are_not_those_of_the_one_before(start, log):
    log.write_text("x ERROR of yesterday\n")
    child = start("pass")
    child.stop(grace_s=10)
    assert child.last_words == "no word"


def test_it_gets_the_environment_it_is_given(start, log, eventually):
    child = start("import os; print(os.environ['A'])", environment={"A": "b"})
    eventually(lambda: child.exit_status is not None)
    assert log.read_text() == "b\n"


def test_stopping_asks_first(start, log, eventually):
    child = start(POLITE)
    eventually(log.read_text)
    child.stop(grace_s=20)
    assert child.exit_status == 3


def test_a_child_that_does_not_listen_is_killed(start, log, eventually):
    child = start(STUBBORN)
    eventually(log.read_text)
    child.stop(grace_s=0.1)
    assert child.exit_status == -signal.SIGKILL


def test_a_second_signal_cuts_the_grace_short(start, log, eventually):
    child = start(STUBBORN)
    eventually(log.read_text)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        child.stop(grace_s=600, request=stop)
    assert child.exit_status == -signal.SIGKILL


def test_ctrl_c_in_a_terminal_does_not_reach_it(start):
    assert os.getpgid(start("import time; time.sleep(60)").pid) != os.getpgid(0)


def test_it_dies_with_its_parent_even_if_that_is_killed(tmp_path, eventually, children_of):
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=root) as parent:
        eventually(lambda: children_of(parent.pid))
        (child,) = children_of(parent.pid)
        eventually(lambda: leash.__file__ not in Path(f"/proc/{child}/cmdline").read_text())
        parent.kill()
        parent.wait()
        eventually(lambda: not Path(f"/proc/{child}").exists())


def test_it_does_not_start_under_a_parent_that_is_gone_already():
    command = [sys.executable, leash.__file__, "1", "/bin/echo", "no"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, b"")
