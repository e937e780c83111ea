"""What a photo costs around its network: an album page, a small card, a redo.

    python -m benchmarks.photo [--album FILE] [--json PATH]

* An album page of 35 megapixels with a network that costs nothing: seconds beside finding the
  faces, and memory above the decoded page.
* The 512 px network under a limit of 2 GB: what a face takes at its peak.
* A redo at another strength from the cache of restored faces, against the first time.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch

from benchmarks.measure import CONFIGS, peak_beside, write_json
from gpen_engine.cache import CacheFolder
from gpen_engine.checkpoint import LoadedGenerator, load_generator
from gpen_engine.detect import load_detector
from gpen_engine.faces import Finish, Pixels, Template, Treatment
from gpen_engine.finder import Finder
from gpen_engine.forward import FaceForward
from gpen_engine.memory import MemoryPlanner
from gpen_engine.model import GpenGenerator
from gpen_engine.networks import FaceModel, GpenModel
from gpen_engine.precision import Precision
from gpen_engine.restoration import Restoration
from gpen_engine.restorer import Restorer
from gpen_engine.weights import COMPACT_FILE

ALBUM = Path("../shared/corpus/formats/album_scan_7016x4960.jpg")
LIMIT_BYTES = 2_000_000_000
CPU = torch.device("cpu")


class Free:
    """A face network that costs nothing: it softens."""

    name = "free"
    sha256 = "0" * 64
    template = Template.GPEN
    input_size = size = 512
    precision = Precision.FP32
    weights_bytes = 0

    def on(self, device: torch.device, precision: Precision) -> "Free":
        """Return itself: it has no weights to put anywhere."""
        del device, precision
        return self

    def activation_bytes(self, batch: int) -> int:
        """Return what the answers take."""
        return batch * 3 * self.size**2 * 4

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Soften `(B, 3, S, S)`."""
        return torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2)


def engine(model: FaceModel, **settings: object) -> Restorer:
    """Wire a face network to the real detector on the CPU."""
    turn = threading.Lock()
    limit = settings.pop("limit_bytes", None)
    planner = MemoryPlanner(CPU, limit_bytes=limit)  # type: ignore[arg-type]
    forward = FaceForward(model, planner, turn=turn, **settings)  # type: ignore[arg-type]
    return Restorer(
        forward=forward, finder=Finder(load_detector(CPU), turn=turn), device=CPU, turn=turn
    )


def album(page: Pixels) -> dict[str, float]:
    """Restore an album page with the free network."""
    restorer = engine(Free())
    restorer.restore(page[:600, :600].copy())
    results: list[Restoration] = []
    start = time.perf_counter()
    memory = peak_beside(lambda: results.append(restorer.restore(page)))
    elapsed_s = time.perf_counter() - start
    timings = results[0].timings_s
    return {
        "faces": sum(face.restored for face in results[0].faces),
        "finding_s": timings["detect"],
        "beside finding_s": elapsed_s - timings["detect"],
        "of that the free network_s": timings["forward"],
        "memory above the page_MB": memory / 1e6,
    }


def small_card() -> dict[str, float]:
    """Run the 512 px network under the limit of a small card."""
    torch.manual_seed(0)
    model = GpenGenerator(CONFIGS[512]).eval()
    restorer = engine(
        GpenModel(LoadedGenerator(model, "0" * 64, COMPACT_FILE), name="gpen-512"),
        limit_bytes=LIMIT_BYTES,
    )
    faces = torch.rand(2, 3, 512, 512) * 2 - 1
    peak = peak_beside(lambda: restorer.restore_faces(faces))
    return {"limit_MB": LIMIT_BYTES / 1e6, "peak above the weights_MB": peak / 1e6}


def redo(picture: Pixels) -> dict[str, float]:
    """Restore a portrait twice, the second time at another strength and from the cache."""
    model = GpenModel(load_generator(COMPACT_FILE), name="compact")
    with tempfile.TemporaryDirectory() as folder:
        restorer = engine(model, cache=CacheFolder(Path(folder)))
        first = restorer.restore(picture).timings_s["forward"]
        half = Treatment(finish=Finish(strength=0.5))
        second = restorer.restore(picture, half).timings_s["forward"]
    return {"first forward_s": first, "redo forward_s": second, "ratio": second / first}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep the numbers where it is asked for."""
    parser = argparse.ArgumentParser(description="What a photo costs around its network.")
    parser.add_argument("--album", type=Path, default=ALBUM)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    numbers = {"a 2 GB card, 512 px, two faces": small_card()}
    numbers["redo from the cache"] = redo(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    if asked.album.is_file():
        page = np.asarray(cv2.imread(str(asked.album), cv2.IMREAD_COLOR_RGB), np.uint8)
        numbers[f"album page of {page.size / 3e6:.0f} megapixels"] = album(page)
    for title, row in numbers.items():
        sys.stdout.write(f"{title}\n")
        for name, value in row.items():
            what, _, unit = name.partition("_")
            sys.stdout.write(f"    {what:32}{value:10.3f} {unit}\n")
    write_json(asked.json, numbers)


if __name__ == "__main__":
    main()
