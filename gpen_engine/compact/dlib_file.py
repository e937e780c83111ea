"""dlib's file of its face recognition network -> the state of a `FaceNet`.

In: the bytes of `dlib_face_recognition_resnet_model_v1.dat`. Out: weights by name, the affine
layers folded into the convolutions. The reader follows dlib's serialize.h and the order of layers
of `anet_type`; it executes nothing of the file.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAME_PERSON = 0.6
"""Descriptors nearer than this belong to one person, by dlib's own choice of threshold."""
CHIP_PX = 150
RGB_MEAN = (122.782, 117.001, 104.298)
STEM = 32
LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
"""Channels, blocks, and whether the first block halves the sides: dlib's level4 to level0."""
NUMBERS = 128
"""Length of a descriptor."""

Array = NDArray[np.float32]


def parse(data: bytes) -> dict[str, Tensor]:
    """Read a `FaceNet`'s state from dlib's serialization of `anet_type`.

    Raises:
        ValueError: the bytes are those of another network, or too few, or too many.
    """
    reader = _Reader(data)
    reader.expect(1)
    reader.text("loss_metric_2")
    reader.reals(0.04, SAME_PERSON)
    reader.expect(*_versions())
    reader.text("input_rgb_image_sized")
    reader.reals(*RGB_MEAN)
    reader.expect(CHIP_PX, CHIP_PX)
    state = _folded(reader, "stem", before=3, channels=STEM, side=7, stride=2)
    reader.layer("relu_")
    reader.layer("max_pool_2", 3, 3, 2, 2, 0, 0)
    before = STEM
    for name, channels, halves in _blocks():
        stride = 2 if halves else 1
        state |= _folded(reader, f"{name}.first", before=before, channels=channels, stride=stride)
        reader.layer("relu_")
        state |= _folded(reader, f"{name}.second", before=channels, channels=channels)
        if halves:
            reader.layer("avg_pool_2", 2, 2, 2, 2, 0, 0)
        reader.layer("add_prev_")
        reader.layer("relu_")
        before = channels
    reader.layer("avg_pool_2", 0, 0, 1, 1, 0, 0)
    state["head.weight"] = torch.from_numpy(_fully_connected(reader, before).T.copy())
    reader.end()
    return state


def _blocks() -> Iterator[tuple[str, int, bool]]:
    """Yield each block's name, channels and whether it halves, in the order of the file."""
    for level, (channels, count, halves) in enumerate(LEVELS):
        for block in range(count):
            yield f"levels.{level}.{block}", channels, halves and block == 0


def _versions() -> Iterator[int]:
    """Yield the layers' format versions, which stand before them, from the last to the first.

    A layer has 2, the one above the input 3, and a tag or a skip 1.
    """
    yield from (2, 2)  # fully connected, mean over all pixels
    for _, _, halves in reversed(list(_blocks())):
        yield from (2, 2)  # relu, add_prev
        yield from (2, 1, 1) if halves else ()  # avg_pool, skip1, tag2
        yield from (2, 2, 2, 2, 2, 1)  # affine, con, relu, affine, con, tag1
    yield from (2, 2, 2, 3)  # max_pool, relu, affine, con


def _folded(
    reader: "_Reader", name: str, *, before: int, channels: int, side: int = 3, stride: int = 1
) -> dict[str, Tensor]:
    """Read a convolution and the affine layer after it as one convolution."""
    weight, bias = _convolution(reader, before, channels, side, stride)
    if name == "stem":
        reader.expect(1)  # sample_expansion_factor, which only the layer above the input has
    gain, shift = _affine(reader, channels)
    return {
        f"{name}.weight": torch.from_numpy(weight * gain[:, None, None, None]),
        f"{name}.bias": torch.from_numpy(bias * gain + shift),
    }


def _convolution(
    reader: "_Reader", before: int, channels: int, side: int, stride: int
) -> tuple[Array, Array]:
    shape = (channels, before, side, side)
    count = channels * before * side * side
    reader.text("con_4")
    numbers = reader.tensor(count + channels, 1, 1, 1)
    padding = 0 if stride > 1 else side // 2
    reader.expect(channels, side, side, stride, stride, padding, padding)
    reader.expect(1, *shape)
    reader.expect(1, 1, channels, 1, 1)
    reader.reals(1, 1, 1, 0)  # factors for the learning rate and the weight decay
    reader.leftovers()
    return numbers[:count].reshape(shape), numbers[count:]


def _affine(reader: "_Reader", channels: int) -> tuple[Array, Array]:
    reader.text("affine_")
    numbers = reader.tensor(2 * channels, 1, 1, 1)
    reader.expect(1, 1, channels, 1, 1)
    reader.expect(1, 1, channels, 1, 1)
    reader.expect(0)  # after a convolution
    reader.leftovers()
    return numbers[:channels], numbers[channels:]


def _fully_connected(reader: "_Reader", before: int) -> Array:
    reader.text("fc_2")
    reader.expect(NUMBERS, before)
    numbers = reader.tensor(before, NUMBERS, 1, 1)
    reader.expect(1, before, NUMBERS, 1, 1)
    reader.expect(1, 0, 0, 0, 0)
    reader.expect(1)  # without bias
    reader.reals(1, 1, 1, 0)
    reader.leftovers()
    return numbers.reshape(before, NUMBERS)


class _Reader:
    """Reads what is expected from dlib's serialization, and raises ValueError otherwise."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def expect(self, *values: int) -> None:
        for value in values:
            found = self._integer()
            self._check(found == value, f"{value} expected, {found} found")

    def reals(self, *values: float) -> None:
        """Floats and doubles are a mantissa and an exponent of 2."""
        for value in values:
            mantissa, exponent = self._integer(), self._integer()
            self._check(abs(exponent) < 100, f"{exponent} is no exponent of a float")
            found = mantissa * 2.0**exponent
            self._check(abs(found - value) < 1e-5, f"{value} expected, {found} found")

    def text(self, value: str) -> None:
        self.expect(len(value))
        found = self._take(len(value))
        self._check(found == value.encode(), f"{value} expected, {found!r} found")

    def tensor(self, *shape: int) -> Array:
        """Format version 2: four sides, then little-endian float32."""
        self.expect(2, *shape)
        numbers = np.frombuffer(self._take(4 * int(np.prod(shape))), "<f4").astype(np.float32)
        self._check(bool(np.isfinite(numbers).all()), "a weight isn't finite")
        return numbers

    def layer(self, name: str, *values: int) -> None:
        """Read a layer without weights."""
        self.text(name)
        self.expect(*values)
        self.leftovers()

    def leftovers(self) -> None:
        """Three flags and three empty tensors follow each layer, for dlib's own training."""
        flags = self._take(3)
        self._check(set(flags) <= set(b"01"), f"{flags!r} are no flags")
        for _ in range(3):
            self.tensor(0, 0, 0, 0)

    def end(self) -> None:
        self._check(self._at == len(self._data), "more follows after the last layer")

    def _integer(self) -> int:
        """One byte has the sign in its first bit and how many little-endian bytes follow."""
        control = self._take(1)[0]
        count = control & 0x7F
        self._check(1 <= count <= 8, f"{control:#x} is no integer's length")
        value = int.from_bytes(self._take(count), "little")
        return -value if control & 0x80 else value

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._check(len(taken) == count, f"it ends where {count} more bytes are due")
        self._at += count
        return taken

    def _check(self, fine: bool, problem: str) -> None:
        if not fine:
            raise ValueError(
                f"not dlib's face recognition network: {problem} (near byte {self._at})"
            )
