"""Decoding in a child: the same photographs come back, and whatever goes wrong costs one photo."""

import dataclasses
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from jobs.errors import (
    DecoderUnavailable,
    Permanent,
    PhotoCorrupt,
    PhotoDecoderCrashed,
    PhotoDecoderTimeout,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoUnsupported,
    ScratchFull,
)
from tests.unit.worker.codec_masters import MASTERS, photo, pillow
from worker.codec import Limits, decode
from worker.decoding import Budget, Decoder, wire
from worker.decoding.arena import Arena
from worker.decoding.channel import Channel, ChannelError
from worker.scratch import Scratch

LIMITS = Limits(100_000_000)
CORPUS = Path(__file__).parents[4] / "shared/corpus/malformed"
MIB = 1 << 20
FAKES = '''
import ctypes, errno, os, resource, sys, time
from worker import codec

def decode(data, *, limits, space):
    """Do what the file says; else decode it."""
    word = bytes(data[:20])
    if word.startswith(b"segfault"):
        ctypes.string_at(0)
    if word.startswith(b"abort"):
        os.abort()
    if word.startswith(b"leave"):
        sys.exit(3)
    if word.startswith(b"steer"):
        os.write(2, b"\\x1b[31m red"); os._exit(4)
    if word.startswith(b"sleep"):
        time.sleep(1000)
    if word.startswith(b"killed"):
        os.kill(os.getpid(), 9)
    if word.startswith(b"unheard"):
        raise LookupError("of something")
    if word.startswith(b"allocate"):
        bytearray(1 << 40)
    if word.startswith(b"fill"):
        held = []
        while True:
            held.append(bytearray(1 << 20))
    if word.startswith(b"wrong"):
        import numpy
        from worker.codec.photograph import Container, Page, Photograph
        return Photograph(Container.PNG, (Page(numpy.zeros((2, 2, 4), "f8"), False),))
    if word.startswith(b"tell"):
        raise codec.decode.__globals__["PhotoCorrupt"](" ".join(sorted(os.environ)))
    return codec.decode(data, limits=limits, space=space)

def decode_on_a_full_disk(data, *, limits, space):
    os.posix_fallocate = no_room
    return codec.decode(data, limits=limits, space=space)

def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
'''


@pytest.fixture(scope="module")
def decoder():
    with Decoder(Budget(60, 2 << 30)) as decoder:
        yield decoder


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    (tmp_path / "fake_codecs.py").write_text(FAKES)
    monkeypatch.syspath_prepend(tmp_path)
    return "fake_codecs:decode"


@pytest.fixture
def fragile(fakes):
    with Decoder(Budget(60, 1 << 30), function=fakes) as decoder:
        yield decoder


def assert_same(one, other):
    """Compare two values, arrays and all."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for item, counterpart in zip(one, other, strict=True):
            assert_same(item, counterpart)
    else:
        assert one == other


@pytest.mark.parametrize("name", MASTERS)
def test_a_photograph_of_any_kind_comes_back_as_it_is(decoder, name):
    data = MASTERS[name]()

    assert_same(decoder(data, limits=LIMITS), decode(data, limits=LIMITS))


def png():
    return pillow(photo(), "PNG")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", PhotoEmpty),
        (b"just words", PhotoUnsupported),
        (b"II*\0\x08\0\0\0" + bytes(40), PhotoCorrupt),
    ],
)
def test_the_codecs_own_errors_come_back_with_their_words(decoder, data, error):
    with pytest.raises(error) as direct:
        decode(data, limits=LIMITS)
    with pytest.raises(error) as told:
        decoder(data, limits=LIMITS)
    assert str(told.value) == str(direct.value)


@pytest.mark.parametrize(
    ("word", "error", "says"),
    [
        (b"segfault", PhotoDecoderCrashed, "SIGSEGV"),
        (b"abort", PhotoDecoderCrashed, "SIGABRT"),
        (b"leave", PhotoDecoderCrashed, "exit status 3"),
        (b"steer", PhotoDecoderCrashed, r"exit status 4:  ?\[31m red"),
        (b"unheard", PhotoDecoderCrashed, "of something"),
        (b"wrong", PhotoDecoderCrashed, "pixels of shape"),
        (b"killed", PhotoTooLarge, "GPEN_DECODE_MEMORY"),
        (b"allocate", PhotoTooLarge, "GPEN_DECODE_MEMORY"),
        (b"fill", PhotoTooLarge, "GPEN_DECODE_MEMORY"),
    ],
)
def test_what_breaks_the_decoder_costs_one_photo(fragile, word, error, says):
    with pytest.raises(error, match=says):
        fragile(word, limits=LIMITS)

    assert_same(fragile(png(), limits=LIMITS), decode(png(), limits=LIMITS))


def test_what_takes_too_long_costs_one_photo(fakes):
    with Decoder(Budget(2, 1 << 30), function=fakes) as decoder:
        with pytest.raises(PhotoDecoderTimeout, match="GPEN_DECODE_S"):
            decoder(b"sleep", limits=LIMITS)
        assert decoder(png(), limits=LIMITS).pages


def test_a_child_knows_no_secrets(fakes, monkeypatch):
    monkeypatch.setenv("GPEN_S3_SECRET_ACCESS_KEY", "hidden")
    with Decoder(Budget(), function=fakes) as decoder, pytest.raises(PhotoCorrupt) as told:
        decoder(b"tell", limits=LIMITS)

    assert "PYTHONPATH" in str(told.value)
    assert "GPEN" not in str(told.value)


def test_a_child_that_was_killed_while_idle_costs_no_photo(decoder):
    (child,) = children_of(os.getpid())
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_running(child))

    assert decoder(png(), limits=LIMITS).pages


def test_a_child_is_replaced_after_so_many_photos():
    with Decoder(Budget(), photos_a_child=2) as decoder:
        seen = set()
        for _ in range(4):
            seen |= set(children_of(os.getpid()))
            decoder(png(), limits=LIMITS)
        assert len(seen) >= 2


def test_a_decoder_that_cannot_start_is_no_photos_fault():
    with (
        Decoder(Budget(), function="no_such_module:decode") as broken,
        pytest.raises(DecoderUnavailable, match="no_such_module"),
    ):
        broken(png(), limits=LIMITS)


def test_samples_may_be_worked_on_in_place(decoder):
    photograph = decoder(png(), limits=LIMITS)
    photograph.pages[0].pixels[:] = 7
    assert (photograph.pages[0].pixels == 7).all()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus isn't here")
def test_every_malformed_file_ends_within_30_s_and_a_gibibyte():
    with Decoder(Budget(30, 1 << 30)) as decoder:
        for path in sorted(CORPUS.iterdir()):
            start, data = time.monotonic(), path.read_bytes()
            direct = outcome(decode, data)
            assert outcome(decoder, data) == direct, path.name
            assert time.monotonic() - start < 30


@pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus isn't here")
def test_a_bomb_that_passes_every_header_check_runs_into_the_limit_of_memory():
    data = (CORPUS / "bomb_real_30000x30000_1bit.png").read_bytes()
    limits = Limits(max_pixels=10**9, max_ratio=10**6)
    with Decoder(Budget(30, 1 << 29)) as decoder:
        with pytest.raises(PhotoTooLarge, match="GPEN_DECODE_MEMORY"):
            decoder(data, limits=limits)
        assert decoder(png(), limits=LIMITS).pages


def tiff(pages, shape, **options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number in range(pages):
            pixels = np.full(shape, number, np.uint8)
            writer.write(pixels, photometric="rgb", metadata=None, **options)
    return file.getvalue()


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("shape", [(8, 8, 3), (800, 800, 3)], ids=["small", "large"])
def test_a_full_disk_is_no_photos_fault(tmp_path, shape):
    scratch, function = Scratch(tmp_path, memory_bytes=0), "fake_codecs:decode_on_a_full_disk"
    with (
        Decoder(Budget(60, 1 << 30), scratch=scratch, function=function) as decoder,
        pytest.raises(ScratchFull, match=r"GPEN_SCRATCH.*No space left"),
    ):
        decoder(tiff(1, shape), limits=LIMITS)


@pytest.mark.parametrize("memory_bytes", [0, 128 * MIB])
@pytest.mark.parametrize("budget_bytes", [28 * MIB, 45 * MIB, 58 * MIB])
def test_a_picture_beyond_the_budget_is_too_large_whatever_says_so(
    tmp_path, budget_bytes, memory_bytes
):
    # On its way there are the limits of address space, of files and of threads.
    turned = tiff(1, (3000, 3333, 3), extratags=[(274, "H", 1, 6, True)])
    with (
        Decoder(
            Budget(60, budget_bytes), scratch=Scratch(tmp_path, memory_bytes=memory_bytes)
        ) as decoder,
        pytest.raises(PhotoTooLarge, match="GPEN_DECODE_MEMORY"),
    ):
        decoder(turned, limits=LIMITS)


@pytest.mark.parametrize("memory_bytes", [0, 128 * MIB])
def test_a_file_may_have_more_large_pages_than_few_files(tmp_path, memory_bytes):
    scratch = Scratch(tmp_path, memory_bytes=memory_bytes)
    with Decoder(Budget(60, 2 << 30), scratch=scratch) as decoder:
        photograph = decoder(tiff(70, (600, 600, 3)), limits=LIMITS)
    assert [page.pixels[-1, -1, 0] for page in photograph.pages] == list(range(70))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_too_many_maps_are_no_photos_fault(tmp_path):
    with Scratch(tmp_path).disk_file() as disk:
        arena = Arena(-1, disk.fileno(), memory_bytes=0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 10, hard))
        try:
            with pytest.raises(ScratchFull, match="Too many open files"):
                _ = [arena.empty((MIB,), np.uint8) for _ in range(20)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def channels():
    ours, theirs = (Channel(end) for end in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_files_that_a_child_sends_are_not_kept(channels):
    ours, theirs = channels
    before = open_files()
    theirs.send("a word", (0, 0, 0))
    assert ours.receive(5) == "a word"
    assert open_files() == before


def test_files_of_a_message_that_breaks_off_are_closed(channels):
    ours, theirs = channels
    before = open_files()
    theirs.send("a word", (0, 0, 0))
    _, fds = ours.receive_with_fds()
    assert open_files() == before + 3
    for fd in fds:
        os.close(fd)

    socket.send_fds(theirs._end, [b"\0\0\0\2{"], [0, 0, 0])
    theirs._end.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelError):
        ours.receive_with_fds()
    assert open_files() == before


@pytest.mark.parametrize(("seconds", "memory"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_no_part_of_a_budget_can_be_off(seconds, memory):
    with pytest.raises(ValueError, match="above 0"):
        Budget(seconds, memory)


@pytest.fixture(scope="module")
def honest():
    """What a child says of a photograph, and the blocks that it filled."""
    memory, disk = os.memfd_create("memory"), os.memfd_create("disk")
    arena = Arena(memory, disk, memory_bytes=1 << 30)
    message = wire.pack(decode(MASTERS["jpeg rgb"](), limits=LIMITS), arena)
    size = os.fstat(memory).st_size
    os.close(memory)
    os.close(disk)
    return message, (memoryview(bytearray(size)), memoryview(b""))


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda _: [],
        lambda _: ["Popen", "sh"],
        lambda message: message[:-1],
        lambda message: [*message, 1],
        lambda message: replaced(message, "array", [["array", 0, -1, "|u1", 40, 56, 3]]),
        lambda message: replaced(message, "array", [["array", 0, 10**9, "|u1", 40, 56, 3]]),
        lambda message: replaced(message, "array", [["array", 0, 0, "|O", 40, 56, 3]]),
        lambda message: replaced(message, "array", [["array", 0, 0, "|u1", 40, 56]]),
        lambda message: replaced(message, "array", [["array", 0, 0, "|u1", 40]]),
        lambda message: replaced(message, "tuple", [["tuple"]]),
        lambda message: replaced(message, "array", [["array", 0, 0, "|u1", -40, -56, 3]]),
        lambda message: replaced(message, "array", [["array", 0, 0, "|u1", 10**30, 1, 3]]),
        lambda message: replaced(message, "array", [["array", 0, 0, "|u1", 40.0, 56, 3]]),
        lambda message: replaced(message, "array", [["array", 1, 0, "|u1", 40, 56, 3]]),
        lambda message: replaced(message, "array", [["array", 2, 0, "|u1", 40, 56, 3]]),
        lambda message: replaced(message, "array", [["array", -1, 0, "|u1", 40, 56, 3]]),
        lambda message: replaced(message, "array", [["array", True, 0, "|u1", 40, 56, 3]]),
        lambda message: replaced(message, "array", ["pixels"]),
        lambda message: replaced(message, "enum", [["enum", "psd"]]),
        lambda message: replaced(message, "fraction", [["fraction", 1, 0]]),
        lambda message: replaced(message, "bytes", [["bytes", 0, 0, 10**12]]),
        lambda message: replaced(message, "Page", []),
    ],
)
def test_what_a_child_says_is_checked_like_a_file(honest, change):
    message, block = honest
    assert wire.unpack(message, block, LIMITS).pages

    with pytest.raises(wire.WireError):
        wire.unpack(change(message), block, LIMITS)


def test_more_pixels_than_were_allowed_are_not_taken(honest):
    with pytest.raises(wire.WireError, match="limit"):
        wire.unpack(*honest, Limits(40 * 56 - 1))


def replaced(message, tag, other):
    """Return a message in which every value of a kind is another."""
    if not isinstance(message, list):
        return message
    made = []
    for item in message:
        if isinstance(item, list) and item and item[0] == tag:
            made += other
        else:
            made.append(replaced(item, tag, other))
    return made


def outcome(function, data):
    try:
        return len(function(data, limits=LIMITS).pages)
    except Permanent as error:
        return error.code


PARENT = """
import os, sys, time
from worker.codec import Limits
from worker.decoding import Budget, Decoder
decoder = Decoder(Budget(), ready=2, function="fake_codecs:decode")
print("ready", flush=True)
decoder(b"sleep", limits=Limits())
"""


@pytest.mark.usefixtures("fakes")
def test_no_child_outlives_a_worker_that_is_killed():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT], env=environment, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"ready\n"
        children = children_of(parent.pid)
        assert len(children) == 2
        parent.kill()
    wait_until(lambda: not any(is_running(child) for child in children))


def children_of(parent):
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and (words := stat_of(entry.name))
        and int(words[1]) == parent
        and words[0] != "Z"
        and b"worker.decoding.child" in (entry / "cmdline").read_bytes()
    ]


def stat_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def is_running(pid):
    words = stat_of(pid)
    return words is not None and words[0] != "Z"


def wait_until(condition, within_s=20):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
