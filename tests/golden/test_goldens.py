"""The network's output, stage by stage, against the stored reference."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden.recipe import HERE, SHARED, face_input, make_model, seeded_input

TOLERANCE = 1e-5
COMMITTED = ("g64_cm1_n025_seeded", "g128_cm1_n025_face", "g256_cm1_n05_face")
OTHERS = ("g64_cm1_n025_face", "g128_cm1_n025_seeded")
CONFIGS = {
    "g64_cm1_n025": {"size": 64, "channel_multiplier": 1, "narrow": 0.25},
    "g128_cm1_n025": {"size": 128, "channel_multiplier": 1, "narrow": 0.25},
    "g256_cm1_n05": {"size": 256, "channel_multiplier": 1, "narrow": 0.5},
}


@pytest.mark.parametrize("name", COMMITTED)
def test_the_network_gives_the_committed_golden(name):
    check_golden(name, HERE)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
@pytest.mark.parametrize("name", OTHERS)
def test_the_network_gives_every_other_golden_at_hand(name):
    check_golden(name, SHARED)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
def test_no_golden_at_hand_is_left_out():
    at_hand = {path.stem for path in SHARED.glob("g*.npz")}

    assert at_hand == {*COMMITTED, *OTHERS}


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
@pytest.mark.parametrize("name", [*(f"{name}.npz" for name in COMMITTED), "pipeline.npz"])
def test_the_committed_goldens_are_copies(name):
    assert (HERE / name).read_bytes() == (SHARED / name).read_bytes()


def check_golden(name: str, folder: Path) -> None:
    stem, kind = name.rsplit("_", 1)
    model = make_model(CONFIGS[stem])
    size = model.config.size
    x = (
        seeded_input(size, 2)
        if kind == "seeded"
        else face_input(folder / f"inputs/face_{size}.png")
    )
    golden = np.load(folder / f"{name}.npz")

    stages = run_stages(model, x)

    compared = 0
    for key in golden.files:
        part = take(key, stages, golden[key].shape)
        if part is None:
            continue
        # Outputs are held to the tolerance itself; inner features have values of up to some tens.
        size_of = 1.0 if key.startswith("out") else max(1.0, float(np.abs(golden[key]).max()))
        np.testing.assert_allclose(part, golden[key], rtol=0, atol=TOLERANCE * size_of, err_msg=key)
        compared += 1
    assert compared >= 40


def run_stages(model: torch.nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the output as `out` and each stage's output by the name that the goldens use."""
    stages: dict[str, np.ndarray] = {"in": x.numpy()}
    names = {"final_linear": "final_linear", "generator.style": "w"}
    for name, _ in model.named_modules():
        parts = name.split(".")
        if len(parts) == 1 and name.startswith("ecd"):
            names[name] = f"enc.{name}"
        if parts[0] == "generator" and (
            name in {"generator.conv1", "generator.to_rgb1"}
            or (len(parts) == 3 and parts[1] in {"convs", "to_rgbs"})
        ):
            names[name] = "gen." + ".".join(parts[1:])

    def keep(stage):
        return lambda _module, _inputs, output: stages.__setitem__(stage, output.numpy())

    for name, stage in names.items():
        model.get_submodule(name).register_forward_hook(keep(stage))
    with torch.no_grad():
        stages["out"] = model(x).numpy()
    return stages


def take(key: str, stages: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return from `stages` what the golden stores under `key`; None for what we don't compare."""
    out = stages["out"]
    side = out.shape[-1]
    middle = side // 2
    whole = {
        "out": out,
        "out_stride8_off3": out[:, :, 3::8, 3::8],
        "out_stride16_off3": out[:, :, 3::16, 3::16],
        "out_center32": out[:, :, middle - 16 : middle + 16, middle - 16 : middle + 16],
        "out_corner16_tl": out[:, :, :16, :16],
        "out_corner16_br": out[:, :, -16:, -16:],
        "out_stats": four(out),
        "in_stats": four(stages["in"]),
        "out_channel_stats": np.array([[four(c) for c in sample] for sample in out]),
    }
    if key in whole:
        return whole[key]
    kind, _, stage = key.partition(".")
    if kind == "stats":
        return four(stages[stage])
    if kind in {"feat", "feat8ch"}:
        return feature(stages[stage], shape, thinned=kind == "feat8ch")
    return None


def four(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return np.array([values.mean(), values.std(), values.min(), values.max()])


def feature(values: np.ndarray, shape: tuple[int, ...], *, thinned: bool) -> np.ndarray:
    if values.shape == shape:
        return values
    channels, height, width = values.shape[1:]
    if thinned:
        steps = (max(1, channels // 8), max(1, height // 8), max(1, width // 8))
        return values[:, :: steps[0], :: steps[1], :: steps[2]]
    return values[:, :, 1 :: height // 16, 1 :: width // 16]
