"""Settings of the golden tests."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Compute in one thread: several wait for each other busily where the cores are shared."""
    torch.set_num_threads(1)
