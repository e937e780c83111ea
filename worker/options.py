"""Options that the engine's commands share."""

from typing import Annotated

import typer

Device = Annotated[str, typer.Option(envvar="GPEN_DEVICE", help="auto, cpu, cuda or cuda:N.")]
VramLimit = Annotated[
    str | None,
    typer.Option(
        envvar="GPEN_VRAM_LIMIT", metavar="SIZE", help="Use no more of the card, such as 2GB."
    ),
]
