"""The face detector as the engine uses it: on the device while there is room, else on the CPU."""

import logging
import threading

from gpen_engine.colour import ColourSpace
from gpen_engine.detect import Detector
from gpen_engine.devices import device_errors, free_unused, pick_device
from gpen_engine.errors import OutOfMemory
from gpen_engine.faces import Face, ModelIdentity, Pixels

_log = logging.getLogger(__name__)


class Finder:
    """Finds faces, one picture at a time; threads may share it.

    Args:
        detector: the detector, on the engine's device.
        turn: held while the device works.
    """

    def __init__(self, detector: Detector, *, turn: threading.Lock) -> None:
        self._detector = detector
        self._turn = turn
        self._note = ""

    @property
    def identity(self) -> ModelIdentity:
        """Which detector, exactly."""
        return self._detector.identity

    def find(
        self,
        image: Pixels,
        *,
        min_score: float,
        rotations: bool,
        colour: ColourSpace | None = None,
    ) -> tuple[list[Face], str]:
        """Return the faces of a picture, the most certain first, and a note for the sidecar.

        The views of a picture are the same however much room there is. Where one doesn't fit, the
        detector moves to the CPU for good: slower, and the same faces.

        Raises:
            OutOfMemory: not even the CPU has room.
        """

        def run() -> list[Face]:
            with device_errors(f"the face detector on {self._detector.device}"):
                return self._detector.detect(
                    image, min_score=min_score, rotations=rotations, colour=colour
                )

        with self._turn:
            try:
                return run(), self._note
            except OutOfMemory as error:
                if self._detector.device.type == "cpu":
                    raise
                free_unused(self._detector.device)
                _log.warning("engine.detector_moved", extra={"fields": {"reason": str(error)}})
                self._detector = self._detector.to(pick_device("cpu"))
                self._note = "out of memory while looking for faces: the detector is on the CPU"
                return run(), self._note
