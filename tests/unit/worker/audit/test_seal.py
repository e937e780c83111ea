import hashlib

import pytest

from worker.audit.seal import BLANK, Seal, check, seal

TEXT = '{\n  "name": "\\"seal\\": \\"' + "0" * 64 + '\\"",\n  "seal": "' + BLANK + '"\n}\n'


def test_a_seal_is_the_sha256_of_the_file_with_zeros_in_its_place():
    sealed = seal(TEXT.encode())
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert sealed.decode() == TEXT[:-68] + digest + '"\n}\n'
    assert check(sealed) is Seal.INTACT


def test_every_flipped_bit_is_found():
    sealed = seal(TEXT.encode())
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        assert check(bytes(damaged)) is not Seal.INTACT, bit


@pytest.mark.parametrize("lost", [1, 3, 70, 100])
def test_a_file_that_was_cut_or_grew_is_found(lost):
    sealed = seal(TEXT.encode())
    assert check(sealed[:-lost]) is not Seal.INTACT
    assert check(sealed[lost:]) is not Seal.INTACT
    assert check(sealed + b"\n" * lost) is not Seal.INTACT


@pytest.mark.parametrize("other", [b"", b"{}", b"rubbish"])
def test_what_was_never_sealed_has_no_seal_and_gets_none(other):
    assert check(other) is Seal.MISSING
    with pytest.raises(ValueError, match="blank seal"):
        seal(other)


def test_nothing_is_sealed_twice():
    with pytest.raises(ValueError, match="blank seal"):
        seal(seal(TEXT.encode()))
