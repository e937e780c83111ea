"""A file's bytes that are fetched as they are looked at.

In: a way to read a part of a file, and its size. Out: something that can be sliced like bytes
(`worker.codec.stored.Stored`). A few blocks are kept, so that neighbours cost one request.
"""

from collections import OrderedDict
from collections.abc import Callable

_BLOCK_BYTES = 32 * 1024
_KEPT_BLOCKS = 16


class LazyBytes:
    """Bytes that lie elsewhere. Not for several threads at once.

    Args:
        read: gets a start and a size; returns fewer bytes only at the end.
        size_bytes: how many there are.
    """

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int) -> None:
        self.bytes_read = 0
        self._read = read
        self._size = size_bytes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        if stop <= start:
            return b""
        first, last = start // _BLOCK_BYTES, (stop - 1) // _BLOCK_BYTES
        if last - first >= _KEPT_BLOCKS:
            return self._fetch(start, stop - start)
        at = first * _BLOCK_BYTES
        return self._joined(first, last)[start - at : stop - at]

    def _joined(self, first: int, last: int) -> bytes:
        """Return blocks as one; those that are missing are fetched together."""
        wanted = range(first, last + 1)
        missing = [index for index in wanted if index not in self._blocks]
        if missing:
            at = missing[0] * _BLOCK_BYTES
            end = min((missing[-1] + 1) * _BLOCK_BYTES, self._size)
            fetched = self._fetch(at, end - at)
            for index in range(missing[0], missing[-1] + 1):
                behind = (index - missing[0]) * _BLOCK_BYTES
                self._blocks[index] = fetched[behind : behind + _BLOCK_BYTES]
        for index in wanted:
            self._blocks.move_to_end(index)
        joined = b"".join(self._blocks[index] for index in wanted)
        while len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return joined

    def _fetch(self, start: int, size: int) -> bytes:
        data = self._read(start, size)
        self.bytes_read += len(data)
        return data
