"""Files to arrays and back, with everything else that a file carried.

`decode` makes a `Photograph` of a file's bytes; `encode` makes the derivative's bytes of it and the
restored pixels; `read_header` tells what `decode` would meet. None touches a disk but for scratch
files (`worker.scratch`), and for any file they raise only photo errors of `jobs.errors`.
"""

from worker.codec.decode import Decode, decode, read_header
from worker.codec.encode import encode, output_suffix
from worker.codec.header import Header, PageHeader
from worker.codec.limits import Limits
from worker.codec.photograph import Container, Encoded, Page, Photograph
from worker.codec.settle import Restored, is_changed, own_rows, rendered_rows, stores_alike
from worker.codec.stored import FileBytes, Stored, sha256_of

__all__ = [
    "Container",
    "Decode",
    "Encoded",
    "FileBytes",
    "Header",
    "Limits",
    "Page",
    "PageHeader",
    "Photograph",
    "Restored",
    "Stored",
    "decode",
    "encode",
    "is_changed",
    "output_suffix",
    "own_rows",
    "read_header",
    "rendered_rows",
    "sha256_of",
    "stores_alike",
]
