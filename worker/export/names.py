"""Names of files inside a bag: an object's key in, a relative path out.

A name is the key itself, unless tools would disagree about it. A manifest has a name a line, in
which RFC 8493 escapes `%`, LF and CR; hardly any tool does so with `%`, and some take U+0085,
U+2028 and U+2029 for the end of a line, or cut spaces off a name. And two keys that differ only in
case, or in how an accent is composed, are one file on other systems. S3 has keys whose parts are
longer than any file system takes. Such names are changed, and the PREMIS file beside them has the
key.
"""

import hashlib
import posixpath
import re
import unicodedata

_DISPUTED = re.compile(r"[%\x85\u2028\u2029]|^\s+|\s+$")
_DIGITS = 8
_LONGEST_BYTES = 230
"""Of one part: file systems take 255, of which the digits and `.premis.xml` need 20."""
_TAIL_BYTES = 30


class Names:
    """Gives every key of one folder a name of its own. What it keeps of each is a number."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def name(self, key: str) -> str:
        """Return the name for a key, which is asked for once.

        `100%.tif` becomes `100_~1a2b3c4d.tif`, with the first digits of the key's own sha256.
        """
        plain = "/".join(_short(_DISPUTED.sub("_", part)) for part in key.split("/"))
        if plain != key or _number(plain) in self._taken:
            stem, suffix = posixpath.splitext(plain)
            plain = f"{stem}~{hashlib.sha256(key.encode()).hexdigest()[:_DIGITS]}{suffix}"
        self._taken.add(_number(plain))
        return plain


def _short(part: str) -> str:
    """Return a part of a name without its middle, if it is too long."""
    whole = part.encode()
    if len(whole) <= _LONGEST_BYTES:
        return part
    ends = whole[: _LONGEST_BYTES - _TAIL_BYTES], whole[-_TAIL_BYTES:]
    return "".join(end.decode(errors="ignore") for end in ends)


def _number(name: str) -> int:
    """Return a number that names share which some file system takes for the same."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    return int.from_bytes(hashlib.sha256(folded.encode()).digest()[:8])
