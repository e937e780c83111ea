"""What `import gpen_engine` offers, and what it doesn't do."""

import json
import subprocess
import sys

import gpen_engine
from gpen_engine import errors


def test_the_public_names_are_these():
    assert gpen_engine.__all__ == sorted(gpen_engine.__all__)
    assert set(gpen_engine.__all__) == {
        "CheckpointCorrupt",
        "CheckpointError",
        "CheckpointMismatch",
        "CheckpointUnknown",
        "Detail",
        "DeviceError",
        "EngineIdentity",
        "Face",
        "FaceOutcome",
        "FacePolicy",
        "Finish",
        "GpenError",
        "ImageError",
        "LargeFaces",
        "Lens",
        "MaskKind",
        "OutOfMemory",
        "WeightsMissing",
        "WeightsNotHere",
        "Reason",
        "Restoration",
        "Restorer",
        "RestorerUnavailable",
        "TermsNotAccepted",
        "Treatment",
        "WeightsFolderUnusable",
        "WeightsUnavailable",
        "load",
    }
    for name in gpen_engine.__all__:
        assert getattr(gpen_engine, name).__doc__


def test_every_error_is_public_with_a_code_of_its_own_and_advice():
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    classes = [value for value in found if issubclass(value, Exception)]

    assert {one.__name__ for one in classes} <= set(gpen_engine.__all__)
    assert all(issubclass(one, errors.GpenError) for one in classes)
    assert len({one.code for one in classes}) == len(classes)
    assert all("advice" in vars(one) and one.advice.endswith(".") for one in classes)


PROBE = """
import json, sys
import torch, cv2
def state():
    return [torch.get_num_threads(), torch.is_grad_enabled(), str(torch.get_default_dtype()),
            torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32,
            torch.are_deterministic_algorithms_enabled(), torch.cuda.is_initialized(),
            torch.initial_seed() == torch.initial_seed(), torch.get_rng_state().sum().item(),
            cv2.getNumThreads()]
before = state()
import gpen_engine
print(json.dumps({"same": before == state(), "modules": sorted(sys.modules)}))
"""


def test_importing_changes_no_setting_and_needs_no_queue_database_or_store():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    roots = {module.partition(".")[0] for module in told["modules"]}

    assert told["same"]
    assert not roots & {"jobs", "producer", "worker", "celery", "kombu", "redis", "sqlalchemy"}
    assert not roots & {"alembic", "boto3", "botocore", "pydantic", "pydantic_settings"}
    # These take seconds, or belong to training only.
    assert not roots & {"facexlib", "torchvision", "skimage", "onnxruntime", "retinaface"}
    assert "gpen_engine.compact.train" not in told["modules"]
