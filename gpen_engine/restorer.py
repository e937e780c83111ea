"""The engine: pictures in, `Restoration`s out. Find, choose, align, restore, put back.

In: `(H, W, 3) uint8|uint16 RGB`, upright. Out: the same dtype and, unless the background is
enlarged, the same shape. Torch's door is `restore_faces`.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gpen_engine.align import scale_of, similarity, view_of
from gpen_engine.background import Background
from gpen_engine.batch import Answer
from gpen_engine.colour import ColourSpace
from gpen_engine.devices import device_name, instructions_of, threads_of
from gpen_engine.errors import ImageError, WeightsNotHere
from gpen_engine.faces import (
    Detail,
    Face,
    LargeFaces,
    Mask,
    MaskKind,
    Pixels,
    Template,
    Treatment,
)
from gpen_engine.finder import Finder
from gpen_engine.forward import FaceForward
from gpen_engine.identity import EngineIdentity
from gpen_engine.mask import soft_face_mask
from gpen_engine.memory import Plan
from gpen_engine.parse import FaceParser
from gpen_engine.putback import AlignedFace, Masks, cut_out, patch_of
from gpen_engine.reference import require_8_bit, restore_compatibly
from gpen_engine.registry import BISENET, PARSENET, REALESR_GENERAL_X4V3
from gpen_engine.restoration import Restoration
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
        restorer: whose face network it is, for the sidecar.
        forward: the face network, ready for work.
        finder: the detector.
        device: what all of them run on.
        turn: held while the device works.
        parser: bounds the pasted part by what the restored face shows.
        background: restores what is no face.
        terms: of the weights by part, and how they were accepted where they have to be.
    """

    def __init__(
        self,
        *,
        restorer: str = "gpen, built in",
        forward: FaceForward,
        finder: Finder,
        device: torch.device,
        turn: threading.Lock,
        parser: FaceParser | None = None,
        background: Background | None = None,
        terms: Mapping[str, str] | None = None,
    ) -> None:
        self._forward = forward
        self._finder = finder
        self._parser = parser
        self._background = background
        self._turn = turn
        self.identity = EngineIdentity(
            restorer=restorer,
            weights=forward.model.name,
            weights_sha256=forward.model.sha256,
            size=forward.model.size,
            detector=finder.identity,
            device=device_name(device),
            precision=forward.plan.precision,
            parser=parser.identity if parser else None,
            background=background.identity if background else None,
            terms=dict(terms or {}),
            background_precision=background.precision if background else None,
            threads=threads_of(device),
            instructions=instructions_of(device),
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
        self,
        image: Pixels,
        treatment: Treatment | None = None,
        *,
        protected: Mask | None = None,
        colour: ColourSpace | None = None,
    ) -> Restoration:
        """Restore every face of a picture that the policy lets through.

        Args:
            image: `(H, W, 3) uint8|uint16 RGB`, upright; it isn't changed.
            treatment: which faces, and how they are put back.
            protected: `(H, W) bool`, areas that are never touched.
            colour: what the picture's samples mean; None takes them for sRGB.

        Raises:
            ImageError: the arrays aren't such pictures, or the treatment isn't possible with them.
            WeightsNotHere: the treatment asks for a parser or a background without weights.
            OutOfMemory: a single face doesn't fit on the device.
        """
        return self.restore_many([image], treatment, protected=[protected], colours=[colour])[0]

    def restore_many(
        self,
        images: Sequence[Pixels],
        treatment: Treatment | None = None,
        *,
        protected: Sequence[Mask | None] | None = None,
        colours: Sequence[ColourSpace | None] | None = None,
    ) -> list[Restoration]:
        """Restore several pictures; their faces go through the network together.

        Arguments and errors are those of `restore`. Threads that call it at the same time share
        their passes as well.
        """
        treatment = treatment or Treatment()
        masks, spaces = protected or [None] * len(images), colours or [None] * len(images)
        works = [Work(*parts) for parts in zip(images, masks, spaces, strict=True)]
        for work in works:
            check_picture(work.image, work.protected)
        if treatment.compatible:
            return [self._restore_compatibly(work, treatment) for work in works]
        for work in works:
            self._find(work, treatment)
            work.canvas = self._canvas(work, treatment)
        faces = [(work, face) for work in works for face in work.chosen]
        in_hand = 1 if treatment.faces.large is LargeFaces.TILE else _IN_HAND
        for start in range(0, len(faces), in_hand):
            self._restore_some(faces[start : start + in_hand], treatment)
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

    def _find(self, work: Work, treatment: Treatment) -> None:
        """Look for faces in the photograph and choose among them."""
        policy = treatment.faces
        with work.timed("detect"):
            found, note = self._finder.find(
                work.image,
                min_score=policy.min_score * _DOUBTFUL,
                rotations=policy.rotations,
                colour=work.colour,
            )
            work.reasons = refusals(
                found,
                policy,
                shape=work.image.shape,
                network_px=self.size,
                kind=self._forward.model.template,
                protected=work.protected,
            )
        work.note(note)

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
            work.note(answer.note)
            redone = self._is_redone(answer)
            if answer.face is None:
                work.add(one.face, None, None, redone_in_float32=redone)
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
                    colour=work.colour,
                )
            work.patches.append(patch)
            work.add(one.face, patch.region, patch.detail, redone_in_float32=redone)
            times = restored.shape[-1] // self.size
            if times > 1:
                work.note(f"a face was restored in tiles, at {times} times the network's picture")

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
            return AlignedFace(face, view, cut_out(view, work.image, work.colour))

    def _is_redone(self, answer: Answer) -> bool:
        return answer.precision is not self.identity.precision

    def _is_larger(self, face: Face) -> bool:
        """Tell whether the photograph has more pixels of a face than the network's picture."""
        model = self._forward.model
        return scale_of(similarity(face.landmarks, model.input_size, model.template)) < 1.0

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
        if work.colour is not None:
            work.colour = None
            work.note("the compatible way takes all samples for sRGB: the ICC profile wasn't used")
        self._find(work, treatment)
        scale = treatment.background_scale
        background = self._canvas(work, treatment) if scale else None
        parser = self._chosen_parser(treatment.finish.mask)
        answers: list[Answer] = []

        def restore(face: Tensor) -> Tensor:
            answers.extend(self._forward([face[0]]))
            restored = answers[-1].face
            return torch.full_like(face, torch.nan) if restored is None else restored[None]

        with work.timed("forward"):
            image, regions = restore_compatibly(
                work.image,
                [face.enlarged(scale or 1) for face in work.chosen],
                restore,
                size=self._forward.model.input_size,
                parser=self._in_turn(parser.face_area) if parser else None,
                strength=treatment.finish.strength,
                background=background,
            )
        for face, region, answer in zip(work.chosen, regions, answers, strict=True):
            detail = Detail.NETWORK if region else None
            work.add(face, region, detail, redone_in_float32=self._is_redone(answer))
            work.note(answer.note)
        if any(self._is_larger(face) for face in work.chosen):
            work.note("a face larger than the network's picture lost detail, as it does there")
        return work.restoration(image)

    def _canvas(self, work: Work, treatment: Treatment) -> Pixels:
        """Return what faces are pasted onto: the photograph, or its restored background."""
        scale = treatment.background_scale
        if not scale:
            return work.image
        if self._background is None:
            raise WeightsNotHere(
                f"a background is asked for, and {REALESR_GENERAL_X4V3.name} isn't in the weights "
                "folder, nor another network named (GPEN_BACKGROUND)"
            )

        def note_tiles(tile_px: int) -> None:
            work.note(f"out of memory: tiles of {tile_px} px restored the background")

        def note_float32() -> None:
            work.note("parts of the background were redone in float32")

        with work.timed("background"), self._turn:
            return self._background.enhance(
                work.image,
                scale,
                colour=work.colour,
                on_shrink=note_tiles,
                on_float32=note_float32,
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
            raise WeightsNotHere(
                f"parsed masks are asked for, and neither {BISENET.name} nor {PARSENET.name} is in "
                "the weights folder"
            )
        return self._parser


def _to_tensor(aligned: AlignedFace, image: Pixels) -> Tensor:
    """Map a crop in the image's levels to `(3, s, s) float32 in [-1, 1]`."""
    half = np.iinfo(image.dtype).max / 2.0
    return torch.from_numpy(aligned.crop / half - 1.0).permute(2, 0, 1).contiguous()
