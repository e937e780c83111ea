"""Small masters of every kind that is read, made by Pillow, tifffile, imagecodecs and libheif."""

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

HEIGHT, WIDTH = 40, 56
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = bytes(imagecodecs.cms_profile("gray", gamma=2.2))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="Box 7"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x50\0\x0bA. Nonymous"
RESOURCES = b"8BIM\x04\x04\0\0\0\0\0\x10" + IPTC
ARTIST, ORIENTATION, EXPOSURE = 315, 274, 0x829A
TAGS = [
    (269, 2, 0, "Box 7", True),
    (271, 2, 0, "Heidelberg", True),
    (272, 2, 0, "Tango", True),
    (285, 2, 0, "leaf 3", True),
    (305, 2, 0, "LinoColor 6", True),
    (306, 2, 0, "1998:04:01 10:00:00", True),
    (315, 2, 0, "A. Nonymous", True),
    (316, 2, 0, "scanner-2", True),
    (33432, 2, 0, "City archive", True),
    (33723, 7, len(IPTC), IPTC, True),
    (65000, 10, 2, (-1, 3, 5, 7), True),
]


def photo(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """A smooth picture with a little grain: `(H, W[, C])` over most of the type's range."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / WIDTH
    planes = [0.5 + 0.4 * np.sin(5 * x + 3 * y + shift) for shift in range(channels)]
    values = np.clip(np.dstack(planes) + random.normal(0, 0.01, (HEIGHT, WIDTH, channels)), 0, 1)
    if np.dtype(dtype).kind != "f":
        values = np.rint(values * np.iinfo(dtype).max)
    return values.astype(dtype)[:, :, 0] if channels == 1 else values.astype(dtype)


def tiff(array: np.ndarray, *, pages: int = 1, **options: object) -> bytes:
    """A TIFF file with descriptive fields."""
    out = io.BytesIO()
    file_options = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
    options.setdefault("photometric", "rgb" if array.ndim == 3 else "minisblack")
    with tifffile.TiffWriter(out, **file_options) as file:
        for _ in range(pages):
            file.write(
                array,
                **{
                    "metadata": None,
                    "software": False,
                    "description": "the harvest of 1911",
                    "resolution": ((3000000, 10000), (6000000, 10000)),
                    "resolutionunit": "inch",
                    "contiguous": False,
                    "extratags": TAGS,
                    **options,
                },
            )
    return out.getvalue()


def pillow(array: np.ndarray, kind: str, **options: object) -> bytes:
    """A file that Pillow writes."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    """A block with a person, an exposure and a way to turn."""
    block = Image.Exif()
    block[ORIENTATION], block[ARTIST] = orientation, "A. Nonymous"
    block.get_ifd(0x8769)[EXPOSURE] = TiffImagePlugin.IFDRational(1, 60)
    return block


def rich(orientation: int = 1) -> dict[str, object]:
    """All that Pillow writes into a JPEG or WebP file."""
    return {"exif": exif(orientation), "icc_profile": SRGB, "xmp": XMP}


def jpeg(array: np.ndarray, **options: object) -> bytes:
    """A JPEG file with an IPTC block."""
    data = pillow(array, "JPEG", quality=92, dpi=(300, 300), **options)
    payload = b"Photoshop 3.0\0" + RESOURCES
    return data[:2] + b"\xff\xed" + (len(payload) + 2).to_bytes(2) + payload + data[2:]


def png(array: np.ndarray, **options: object) -> bytes:
    """A PNG file of any depth with texts."""
    plain = bytes(imagecodecs.png_encode(array))
    if array.dtype == np.uint8:
        texts = PngInfo()
        texts.add_text("Title", "A wedding")
        texts.add_text("Software", "LinoColor 6")
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        plain = pillow(array, "PNG", pnginfo=texts, dpi=(300, 300), **options)
    return plain


def heic(array: np.ndarray, orientation: int = 1) -> bytes:
    """A HEIC file of 8 or, from 16-bit samples, 10 bits."""
    out = io.BytesIO()
    if array.dtype == np.uint8:
        file = pillow_heif.from_pillow(Image.fromarray(array))
    else:
        file = pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), array.tobytes())
    file.save(out, quality=90, exif=exif(orientation).tobytes(), xmp=XMP)
    return out.getvalue()


def jp2(array: np.ndarray, bits: int, *, lossless: bool = True) -> bytes:
    """A JP2 file with resolution, EXIF, XMP and IPTC in boxes."""
    level = 0 if lossless else 40
    data = bytes(
        imagecodecs.jpeg2k_encode(
            array, level=level, codecformat="jp2", bitspersample=bits, reversible=lossless
        )
    )
    at = data.index(b"jp2h") - 4
    length = int.from_bytes(data[at : at + 4])
    points = b"".join(value.to_bytes(2) for value in (11811, 1, 11811, 1)) + b"\0\0"
    resolution = (26).to_bytes(4) + b"res " + (18).to_bytes(4) + b"resc" + points
    header = (length + 26).to_bytes(4) + data[at + 4 : at + length] + resolution
    identified = b"".join(
        (24 + len(body)).to_bytes(4) + b"uuid" + name + body
        for name, body in (
            (b"JpgTiffExif->JP2", exif().tobytes().removeprefix(b"Exif\0\0")),
            (bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), XMP),
            (bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), IPTC),
        )
    )
    return data[:at] + header + identified + data[at + length :]


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    """A file of an image as it is, palette and all."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pages() -> bytes:
    """Gray, 16-bit colour, bilevel and CMYK in one file, each with its own words and size."""
    out = io.BytesIO()
    arrays = [
        (photo(1), "minisblack", "lzw"),
        (photo(3, np.uint16)[:30], "rgb", "zlib"),
        (photo(1) > 128, "miniswhite", "packbits"),
        (photo(4)[:, :44], "separated", None),
    ]
    with tifffile.TiffWriter(out, byteorder=">") as file:
        for number, (array, photometric, compression) in enumerate(arrays, 1):
            file.write(
                array,
                photometric=photometric,
                compression=compression,
                metadata=None,
                software=False,
                description=f"leaf {number}",
                resolution=(100 * number, 200 * number),
                resolutionunit="centimeter",
                contiguous=False,
                subfiletype=2,
            )
    return out.getvalue()


def floats(channels: int, dtype: type, *, span: float = 1.0) -> np.ndarray:
    """Numbers from 0 to `span`, and a little beyond."""
    return (photo(channels, np.float64) * 1.1 - 0.05).astype(dtype) * dtype(span)


SHORT, BYTE, WIDE = np.uint16, np.uint8, {"rowsperstrip": 11}
SEPARATE = {"planarconfig": "separate"}

MASTERS: dict[str, Callable[[], bytes]] = {
    "tiff gray 8": lambda: tiff(photo(1), iccprofile=GRAY),
    "tiff gray 16": lambda: tiff(photo(1, SHORT), compression="zlib", predictor=2),
    "tiff rgb 8": lambda: tiff(photo(), iccprofile=SRGB, **WIDE),
    "tiff rgb 16": lambda: tiff(photo(3, SHORT), compression="lzw", predictor=2, **WIDE),
    "tiff straight alpha": lambda: tiff(photo(4), extrasamples=["unassalpha"], compression="zlib"),
    "tiff associated alpha": lambda: tiff(photo(4, SHORT), extrasamples=["assocalpha"]),
    "tiff gray alpha": lambda: tiff(
        photo(2), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    ),
    "tiff planes": lambda: tiff(np.moveaxis(photo(3, SHORT), 2, 0), **SEPARATE, **WIDE),
    "tiff planes in tiles": lambda: tiff(
        np.moveaxis(photo(), 2, 0), **SEPARATE, tile=(16, 32), compression="lzw"
    ),
    "tiff big-endian": lambda: tiff(photo(3, SHORT), byteorder=">", compression="zlib"),
    "tiff big": lambda: tiff(photo(), bigtiff=True, tile=(32, 16), compression="zlib", predictor=2),
    "tiff big big-endian": lambda: tiff(photo(1, SHORT), bigtiff=True, byteorder=">"),
    "tiff packbits": lambda: tiff(photo(), compression="packbits", **WIDE),
    "tiff old deflate": lambda: tiff(photo(), compression="deflate"),
    "tiff zstd": lambda: tiff(photo(3, SHORT), compression="zstd", predictor=2),
    "tiff lzma": lambda: tiff(photo(), compression="lzma"),
    "tiff lerc": lambda: tiff(floats(3, np.float32), compression="lerc"),
    "tiff webp": lambda: tiff(photo(), compression="webp", compressionargs={"lossless": True}),
    "tiff jpeg": lambda: tiff(photo(), compression="jpeg", rowsperstrip=16),
    "tiff jpeg 2000": lambda: tiff(photo(), compression="jpeg2000", tile=(32, 32)),
    "tiff 0 is white": lambda: tiff(photo(1), photometric="miniswhite", compression="lzw"),
    "tiff 0 is white 16": lambda: tiff(photo(1, SHORT), photometric="miniswhite"),
    "tiff 12 in 16": lambda: tiff(photo(1, SHORT) >> 4, compression="zlib"),
    "tiff 12 in 16 rgb": lambda: tiff(photo(3, SHORT) >> 4),
    "tiff 14 in 16, 0 is white": lambda: tiff(photo(1, SHORT) >> 2, photometric="miniswhite"),
    "tiff float 16": lambda: tiff(floats(1, np.float16)),
    "tiff float 32": lambda: tiff(floats(3, np.float32), compression="zlib", predictor=3),
    "tiff float 32 big-endian": lambda: tiff(floats(1, np.float32), byteorder=">"),
    "tiff float 64 with a range": lambda: tiff(
        floats(1, np.float64, span=500.0),
        extratags=[*TAGS, (340, 12, 1, 0.0, True), (341, 12, 1, 500.0, True)],
    ),
    "tiff cmyk 8": lambda: tiff(photo(4), photometric="separated", compression="lzw"),
    "tiff cmyk 16 alpha": lambda: tiff(
        photo(5, SHORT), photometric="separated", extrasamples=["unassalpha"]
    ),
    "tiff cmyk jpeg": lambda: tiff(photo(4), photometric="separated", compression="jpeg"),
    "tiff lab 8": lambda: tiff(lab(BYTE), photometric="cielab"),
    "tiff lab 16": lambda: tiff(lab(SHORT), photometric="cielab", compression="zlib"),
    "tiff icc lab 16": lambda: tiff(photo(3, SHORT) // 4 + 24000, photometric="icclab"),
    "tiff palette": lambda: tiff(
        photo(1) >> 4, photometric="palette", colormap=palette(257), compression="lzw"
    ),
    "tiff palette of 16 bits": lambda: tiff(
        photo(1) >> 4, photometric="palette", colormap=palette(251)
    ),
    "tiff 4 bits": lambda: tiff(photo(1) >> 4, bitspersample=4),
    "tiff bilevel": lambda: tiff(photo(1) > 128, compression="zlib"),
    "tiff group 4": lambda: save(
        Image.fromarray(photo(1) > 128), "TIFF", compression="group4", dpi=(300, 300)
    ),
    "tiff group 3, 0 is white": lambda: save(
        Image.fromarray(photo(1) > 128), "TIFF", compression="group3", tiffinfo={262: 0}
    ),
    "tiff pages": pages,
    "png gray 8": lambda: png(photo(1), icc_profile=GRAY),
    "png gray 16": lambda: png(photo(1, SHORT)),
    "png gray alpha": lambda: png(photo(2)),
    "png rgb 8": lambda: png(photo(), exif=exif(6), icc_profile=SRGB),
    "png rgb 16": lambda: png(photo(3, SHORT)),
    "png rgb alpha 16": lambda: png(photo(4, SHORT)),
    "png palette": lambda: save(Image.fromarray(photo()).quantize(40), "PNG", dpi=(300, 300)),
    "png transparent colour": lambda: png(photo(), transparency=(1, 2, 3)),
    "png bilevel": lambda: save(Image.fromarray(photo(1) > 128), "PNG"),
    "jpeg rgb": lambda: jpeg(photo(), **rich(), comment=b"found in the attic"),
    "jpeg gray": lambda: jpeg(photo(1), exif=exif(8), icc_profile=GRAY),
    "jpeg cmyk": lambda: save(
        Image.frombytes("CMYK", (WIDTH, HEIGHT), photo(4).tobytes()), "JPEG", dpi=(300, 300)
    ),
    "webp lossy": lambda: pillow(photo(), "WEBP", quality=80, **rich(6)),
    "webp lossless": lambda: pillow(photo(), "WEBP", lossless=True, **rich(6)),
    "webp lossless alpha": lambda: pillow(photo(4), "WEBP", lossless=True, exact=True, **rich()),
    "jp2 rgb": lambda: jp2(photo(), 8),
    "jp2 gray 12": lambda: jp2(photo(1, SHORT) >> 4, 12),
    "jp2 rgb 16": lambda: jp2(photo(3, SHORT), 16),
    "jp2 lossy": lambda: jp2(photo(), 8, lossless=False),
    "jp2 lossy 12": lambda: jp2(photo(3, SHORT) >> 4, 12, lossless=False),
    "avif": lambda: pillow(photo(), "AVIF", quality=80, exif=exif(), xmp=XMP, icc_profile=SRGB),
    "avif 10": lambda: bytes(imagecodecs.avif_encode(photo(3, SHORT) >> 6, bitspersample=10)),
    "heic": lambda: heic(photo(), 6),
    "heic 10": lambda: heic(photo(3, SHORT)),
    "gif": lambda: pillow(photo(), "GIF", comment=b"found in the attic"),
    "bmp": lambda: pillow(photo(), "BMP", dpi=(300, 300)),
} | {
    f"tiff orientation {told}": lambda told=told: tiff(
        photo(3, SHORT), extratags=[*TAGS, (ORIENTATION, 3, 1, told, True)], compression="zlib"
    )
    for told in range(2, 9)
}


def lab(dtype: type) -> np.ndarray:
    """Skin and sky in CIE L*a*b*, a* and b* in two's complement."""
    unit = 2 ** (np.dtype(dtype).itemsize * 8 - 8)
    light, a, b = np.moveaxis(photo(3, np.float64), 2, 0)
    signed = np.dstack([light * 240, a * 60 - 20, b * 60 - 30]) * unit
    return signed.astype(np.int64).astype(dtype)


def palette(step: int) -> np.ndarray:
    """A colour map of 256 entries whose numbers are multiples of `step`."""
    grays = np.arange(256, dtype=np.uint16) * step
    return np.stack([grays, grays[::-1], grays // 2 // step * step])
