"""Files to arrays and back, with everything else that a file carried.

`decode` makes a `Photograph` of a file's bytes; `encode` makes the derivative's bytes of it and the
restored pixels. Neither touches a disk, and for any file they raise only photo errors of
`jobs.errors`.
"""

from worker.codec.decode import decode
from worker.codec.encode import encode, output_suffix
from worker.codec.photograph import Container, Encoded, Page, Photograph

__all__ = ["Container", "Encoded", "Page", "Photograph", "decode", "encode", "output_suffix"]
