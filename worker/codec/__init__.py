"""Files to arrays and back, with everything else that a file carried.

`decode` makes a `Photograph` of a file's bytes; `encode` makes the derivative's bytes of it and the
restored pixels; `read_header` tells what `decode` would meet. None touches a disk, and for any file
they raise only photo errors of `jobs.errors`.
"""

from worker.codec.decode import Decode, decode, read_header
from worker.codec.encode import encode, output_suffix
from worker.codec.header import Header, PageHeader
from worker.codec.limits import Limits
from worker.codec.photograph import Container, Encoded, Page, Photograph
from worker.codec.settle import own_samples, stores_alike

__all__ = [
    "Container",
    "Decode",
    "Encoded",
    "Header",
    "Limits",
    "Page",
    "PageHeader",
    "Photograph",
    "decode",
    "encode",
    "output_suffix",
    "own_samples",
    "read_header",
    "stores_alike",
]
