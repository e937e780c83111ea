"""Made faces to train and to score on: no faces, but smooth shapes with some edges."""

import csv
import hashlib
from itertools import islice

import cv2
import numpy as np


def portrait(side, seed):
    """Make a picture `(side, side, 3) uint8` of smooth colours with a disc in the middle."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.uniform(0, 255, (6, 6, 3)).astype(np.float32), (side, side))
    cv2.circle(picture, (side // 2, side // 2), side // 4, (200.0, 160.0, 140.0), -1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def names(side, count, source="made"):
    """Return names of files that the hash puts on one side of the split."""
    found = (
        f"p{index}.jpg"
        for index in range(10_000)
        if (hashlib.sha256(f"{source}/p{index}.jpg".encode()).digest()[0] % 100 < 6)
        == (side == "validation")
    )
    return list(islice(found, count))


def write_faces(root, files):
    """Make a folder of crops with its manifest; `files` maps each to its source file."""
    root.mkdir(exist_ok=True)
    lines = [["file", "inner_px", "photo_corners", "source_file", "licence"]]
    for index, (file, source_file) in enumerate(files.items()):
        path = root / file
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), portrait(200, index)[:, :, ::-1])
        lines.append([file, 160, "0 0 200 0 200 200 0 200", source_file, "CC0"])
    with (root / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return root
