"""The engine as it ships, built once, and one picture with one face."""

import numpy as np
import pytest
import skimage.data
import torch

import gpen_engine
from gpen_engine.detect import Detector, load_detector


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Compute in one thread: several wait for each other busily where the cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine() -> gpen_engine.Restorer:
    """The shipped network and detector on the CPU."""
    return gpen_engine.load(device="cpu")


@pytest.fixture(scope="session")
def detector() -> Detector:
    """The shipped detector."""
    return load_detector(torch.device("cpu"))


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A portrait, `(512, 512, 3) uint8`, that nobody can write to."""
    picture = skimage.data.astronaut()
    picture.flags.writeable = False
    return picture


@pytest.fixture(scope="session")
def restored(engine, astronaut) -> gpen_engine.Restoration:
    """The portrait, restored once for all tests that look at it."""
    return engine.restore(astronaut)
