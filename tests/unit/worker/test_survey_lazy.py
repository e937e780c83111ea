from hypothesis import given
from hypothesis import strategies as st

from worker.codec.stored import find, open_stored
from worker.survey.lazy import LazyBytes

DATA = bytes(range(256)) * 8192  # 2 MiB, 64 blocks


class Reads:
    """A file elsewhere that remembers what was asked of it."""

    def __init__(self, data=DATA):
        self.data = data
        self.asked = []

    def __call__(self, start, size):
        self.asked.append((start, size))
        return self.data[start : start + size]


def lazy(reads):
    return LazyBytes(reads, len(reads.data))


@given(
    st.lists(st.tuples(st.integers(0, len(DATA) + 9), st.integers(0, 700_000)), max_size=30),
)
def test_every_slice_is_that_of_the_bytes(parts):
    data = lazy(Reads())
    for start, size in parts:
        assert data[start : start + size] == DATA[start : start + size]
    assert data[-10:] == DATA[-10:]
    assert len(data) == len(DATA)


def test_neighbours_cost_one_request():
    reads = Reads()
    data = lazy(reads)
    for at in range(0, 30_000, 7):
        data[at : at + 20]
    assert len(reads.asked) == 1
    assert data.bytes_read == reads.asked[0][1] < 100_000


def test_what_is_not_looked_at_is_not_read():
    data = lazy(Reads())
    data[:10]
    data[-10:]
    assert data.bytes_read < len(DATA) / 20


def test_a_slice_over_several_blocks_is_one_request_and_known_ones_are_not_asked_for_again():
    reads = Reads()
    data = lazy(reads)
    data[0:10]
    data[0:300_000]
    data[100_000:200_000]
    assert len(reads.asked) == 2
    assert reads.asked[1][0] == reads.asked[0][1]


def test_little_is_kept_however_much_is_read():
    reads = Reads()
    data = lazy(reads)
    for at in range(0, len(DATA), 1000):
        data[at : at + 10]
    data[:10]
    assert reads.asked[-1][0] == 0  # the first block was given up


def test_a_file_that_is_shorter_than_it_was_said_gives_fewer_bytes():
    assert LazyBytes(Reads(b"short"), 100)[0:50] == b"short"


def test_it_can_be_read_as_a_file():
    with open_stored(lazy(Reads())) as file:
        assert file.read(5) == DATA[:5]
        file.seek(-4, 2)
        assert file.read() == DATA[-4:]
        file.seek(1_000_001)
        assert file.read(300) == DATA[1_000_001:1_000_301]
        assert file.tell() == 1_000_301


def test_a_mark_is_found_wherever_it_lies():
    data = bytearray(3 * 2**20)
    for at in (0, 5, 2**20 - 2, 2**20 - 1, 2**20, 3 * 2**20 - 4):
        marked = bytes(data[:at] + b"MARK" + data[at + 4 :])
        for stored in (marked, LazyBytes(Reads(marked), len(marked))):
            assert find(stored, b"MARK") == at
            assert find(stored, b"MARK", at) == at
            assert find(stored, b"MARK", at + 1) == -1
