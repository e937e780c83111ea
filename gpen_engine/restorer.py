"""The engine: pictures in, `Restoration`s out. Find, choose, align, restore, put back.

In: `(H, W, 3) uint8|uint16 RGB`, upright. Out: the same dtype and, unless the background is
enlarged, the same shape. Torch's door is `restore_faces`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gpen_engine.align import view_of
from gpen_engine.background import Background
from gpen_engine.batch import Answer
from gpen_engine.devices import device_name
from gpen_engine.errors import ImageError, PartMissing
from gpen_engine.faces import (
    Detail,
    Face,
    FaceOutcome,
    LargeFaces,
    Mask,
    MaskKind,
    Pixels,
    Reason,
    Restoration,
    Template,
    Treatment,
)
from gpen_engine.finder import Finder
from gpen_engine.forward import FaceForward
from gpen_engine.identity import EngineIdentity
from gpen_engine.mask import soft_face_mask
from gpen_engine.memory import Plan
from gpen_engine.parse import FaceParser
from gpen_engine.putback import AlignedFace, Masks, patch_of
from gpen_engine.reference import require_8_bit, restore_compatibly
from gpen_engine.select import refusals
from gpen_engine.work import Work, check_picture

_Result = TypeVar("_Result")
_DOUBTFUL = 0.8
"""Finds down to this share of the policy's score are listed, with a reason, but not restored."""
_IN_HAND = 16
"""Faces that are held as crops at a time: an album page has more than memory should hold."""
_LARGEST_CLOSEUP = 4
"""A face is restored in tiles at most at so many times the network's size."""


class Restorer:
    """One face network and one detector on one device; threads may share it.

    Args:
        forward: the face network, ready for work.
        finder: the detector.
        device: what all of them run on.
        turn: held while the device works.
        parser: bounds the pasted part by what the restored face shows.
        background: restores what is no face.
        terms: how the terms of the weights were accepted, where they have some.
    """

    def __init__(
        self,
        *,
        forward: FaceForward,
        finder: Finder,
        device: torch.device,
        turn: threading.Lock,
        parser: FaceParser | None = None,
        background: Background | None = None,
        terms: str = "",
    ) -> None:
        self._forward = forward
        self._finder = finder
        self._parser = parser
        self._background = background
        self._turn = turn
        self.identity = EngineIdentity(
            weights=forward.model.name,
            weights_sha256=forward.model.sha256,
            size=forward.model.size,
            detector=finder.identity,
            device=device_name(device),
            precision=forward.plan.precision,
            parser=parser.identity if parser else None,
            background=background.identity if background else None,
            terms=terms,
        )

    @property
    def size(self) -> int:
        """Side of a restored face in pixels."""
        return self._forward.model.size

    @property
    def plan(self) -> Plan:
        """What was chosen to fit the device's memory."""
        return self._forward.plan

    def restore(
        self, image: Pixels, treatment: Treatment | None = None, *, protected: Mask | None = None
    ) -> Restoration:
        """Restore every face of a picture that the policy lets through.

        Args:
            image: `(H, W, 3) uint8|uint16 RGB`, upright; it isn't changed.
            treatment: which faces, and how they are put back.
            protected: `(H, W) bool`, areas that are never touched.

        Raises:
            ImageError: the arrays aren't such pictures, or the treatment isn't possible with them.
            PartMissing: the treatment asks for a parser or a background without weights.
            OutOfMemory: a single face doesn't fit on the device.
        """
        return self.restore_many([image], treatment, protected=[protected])[0]

    def restore_many(
        self,
        images: Sequence[Pixels],
        treatment: Treatment | None = None,
        *,
        protected: Sequence[Mask | None] | None = None,
    ) -> list[Restoration]:
        """Restore several pictures; their faces go through the network together.

        Arguments and errors are those of `restore`. Threads that call it at the same time share
        their passes as well.
        """
        treatment = treatment or Treatment()
        masks = protected or [None] * len(images)
        works = [Work(image, mask) for image, mask in zip(images, masks, strict=True)]
        for work in works:
            check_picture(work.image, work.protected)
        if treatment.compatible:
            return [self._restore_compatibly(work, treatment) for work in works]
        for work in works:
            self._find(work, work.image, treatment)
            work.canvas = self._canvas(work, treatment)
        faces = [(work, face) for work in works for face in work.chosen]
        for start in range(0, len(faces), _IN_HAND):
            self._restore_some(faces[start : start + _IN_HAND], treatment)
        return [work.result() for work in works]

    def restore_faces(self, x: Tensor) -> Tensor:
        """Run the network on aligned faces.

        Args:
            x: `(B, 3, s, s) float in [-1, 1] RGB`, on any device; `s` is the network's input side.

        Returns:
            `(B, 3, S, S) float32` on the CPU, clipped to [-1, 1]; a face that came out unusable in
            every precision is NaN.

        Raises:
            ImageError: another shape or an integer tensor.
            OutOfMemory: a single face doesn't fit on the device.
        """
        side = self._forward.model.input_size
        if x.ndim != 4 or x.shape[1:] != (3, side, side) or not x.is_floating_point():
            raise ImageError(
                f"aligned faces are (B, 3, {side}, {side}) float, not {tuple(x.shape)} {x.dtype}"
            )
        faces = torch.full((len(x), 3, self.size, self.size), torch.nan)
        for index, answer in enumerate(self._forward(list(x.float().cpu()))):
            if answer.face is not None:
                faces[index] = answer.face.clamp(-1, 1)
        return faces

    def _find(self, work: Work, picture: Pixels, treatment: Treatment) -> None:
        """Look for faces in a picture and choose among them."""
        policy = treatment.faces
        with work.timed("detect"):
            found, note = self._finder.find(
                picture, min_score=policy.min_score * _DOUBTFUL, rotations=policy.rotations
            )
            work.reasons = refusals(
                found, policy, shape=picture.shape, network_px=self.size, protected=work.protected
            )
        work.notes += [note] if note else []

    def _restore_some(self, faces: Sequence[tuple[Work, Face]], treatment: Treatment) -> None:
        """Align, restore and make patches of faces of one or several pictures."""
        works = [work for work, _ in faces]
        aligned = [self._aligned(work, face, treatment) for work, face in faces]
        start = time.perf_counter()
        answers = self._answer(
            [_to_tensor(one, work.image) for one, work in zip(aligned, works, strict=True)]
        )
        share_s = (time.perf_counter() - start) / len(faces)
        masks = self._masks(treatment.finish.mask)
        for work, one, answer in zip(works, aligned, answers, strict=True):
            work.spend("forward", share_s)
            redone = answer.precision is not self.identity.precision
            if answer.face is None:
                work.add(one.face, None, redone_in_float32=redone, note=answer.note)
                continue
            restored = answer.face.clamp(-1, 1)
            with work.timed("paste"):
                patch = patch_of(
                    one,
                    restored,
                    work.image,
                    work.canvas,
                    masks(restored),
                    finish=treatment.finish,
                    protected=work.protected,
                )
            work.add(one.face, patch, redone_in_float32=redone, note=answer.note)

    def _aligned(self, work: Work, face: Face, treatment: Treatment) -> AlignedFace:
        """Cut a face out as large as the network takes it or, in tiles, as large as it is."""
        model = self._forward.model
        with work.timed("align"):
            view = view_of(
                face.landmarks,
                model.input_size,
                shape=work.image.shape,
                kind=model.template,
                lens=treatment.finish.lens,
            )
            times = 1
            while treatment.faces.large is LargeFaces.TILE and view.scale * times < 0.75:
                times *= 2
            view = view.sized(min(times, _LARGEST_CLOSEUP) * model.input_size)
            return AlignedFace(face, view, view.crop(work.image))

    def _answer(self, faces: Sequence[Tensor]) -> list[Answer]:
        """Restore aligned faces: those of the network's size together, larger ones in tiles."""
        side = self._forward.model.input_size
        together = iter(self._forward([face for face in faces if face.shape[-1] == side]))
        return [
            next(together) if face.shape[-1] == side else self._forward.in_tiles(face)
            for face in faces
        ]

    def _restore_compatibly(self, work: Work, treatment: Treatment) -> Restoration:
        """Do everything as the published pipeline does."""
        if work.protected is not None:
            raise ImageError("the compatible way knows no protected areas")
        if self._forward.model.template is not Template.GPEN:
            raise ImageError("the compatible way is GPEN's: no other network's faces fit it")
        require_8_bit(work.image)
        self._find(work, work.image, treatment)
        scale = treatment.background_scale
        background = self._canvas(work, treatment) if scale else None
        parser = self._chosen_parser(treatment.finish.mask)
        with work.timed("forward"):
            image, regions = restore_compatibly(
                work.image,
                [face.enlarged(scale or 1) for face in work.chosen],
                self.restore_faces,
                size=self._forward.model.input_size,
                parser=self._in_turn(parser.face_area) if parser else None,
                strength=treatment.finish.strength,
                background=background,
            )
        for face, region in zip(work.chosen, regions, strict=True):
            work.outcomes[face] = (
                FaceOutcome(face, restored=True, region=region, detail=Detail.NETWORK)
                if region
                else FaceOutcome(face, restored=False, reason=Reason.BAD_OUTPUT)
            )
        return work.restoration(image)

    def _canvas(self, work: Work, treatment: Treatment) -> Pixels:
        """Return what faces are pasted onto: the photograph, or its restored background."""
        scale = treatment.background_scale
        if not scale:
            return work.image
        if self._background is None:
            raise PartMissing("a background is asked for, and its weights aren't here")

        def note_tiles(tile_px: int) -> None:
            work.notes.append(f"out of memory: tiles of {tile_px} px restored the background")

        def note_float32() -> None:
            work.notes.append("parts of the background were redone in float32")

        with work.timed("background"), self._turn:
            return self._background.enhance(
                work.image, scale, on_shrink=note_tiles, on_float32=note_float32
            )

    def _masks(self, kind: MaskKind) -> Masks:
        """Return what bounds a restored face."""
        parser = self._chosen_parser(kind)
        if parser is None:
            return lambda face: soft_face_mask(face.shape[-1], self._forward.model.template)

        masks = self._in_turn(parser.masks)
        return lambda face: masks(face[None])[0]

    def _in_turn(self, work: Callable[[Tensor], _Result]) -> Callable[[Tensor], _Result]:
        """Return what holds the device while it works."""

        def alone(faces: Tensor) -> _Result:
            with self._turn:
                return work(faces)

        return alone

    def _chosen_parser(self, kind: MaskKind) -> FaceParser | None:
        if kind is MaskKind.SOFT:
            return None
        if kind is MaskKind.PARSED and self._parser is None:
            raise PartMissing("parsed masks are asked for, and no parser's weights are here")
        return self._parser


def _to_tensor(aligned: AlignedFace, image: Pixels) -> Tensor:
    """Map a crop in the image's levels to `(3, s, s) float32 in [-1, 1]`."""
    half = np.iinfo(image.dtype).max / 2.0
    return torch.from_numpy(aligned.crop / half - 1.0).permute(2, 0, 1).contiguous()
