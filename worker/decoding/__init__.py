"""Decoding in a child process that may crash, hang or run out of memory, and costs one photo.

A file's bytes go in; a `Photograph` or an error of `jobs.errors` comes out, as from
`worker.codec.decode`. Why, and what crosses the border how: docs/adr/0012.
"""

from worker.decoding.budget import Budget
from worker.decoding.decoder import Decoder

__all__ = ["Budget", "Decoder"]
