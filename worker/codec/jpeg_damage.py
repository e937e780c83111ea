"""What a JPEG decoder only warns of: damage in the scans, which it decodes to wrong colours.

Pillow is silent about it. libjpeg-turbo tells it, here at an eighth of the size: the data are read
to the end, and little is computed from them.
"""

import simplejpeg

_DAMAGE = ("Corrupt JPEG data", "Premature end")
"""What libjpeg's warnings of it begin with; all others are about what the decoder can't do."""


def find_damage(data: bytes) -> str:
    """Return libjpeg's warning about the samples of a JPEG file, "" where it has none."""
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        text = str(error)
        return text if text.startswith(_DAMAGE) else ""
    return ""
