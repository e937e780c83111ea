"""The published schema against sidecars that the pipeline wrote, and against the code it names."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from gpen_engine import Detail, Reason
from gpen_engine.precision import Precision
from jobs import recipe
from jobs.recipe import Recipe
from tests.unit.worker.audit.archive import IDENTITY, RESTORED, PageEngine, scan
from worker.audit.record import SCHEMA_VERSION, SEALED_SINCE
from worker.audit.untouched import Proven
from worker.codec import Container
from worker.codec.formats import KINDS

DOCS = Path(__file__).parents[4] / "docs"
SCHEMA = json.loads((DOCS / "schema" / f"sidecar-{SCHEMA_VERSION}.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(
    SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def faults(sidecar):
    return [fault.message for fault in VALIDATOR.iter_errors(sidecar)]


def objects(schema=SCHEMA):
    """Every part of the schema that describes fields, and every field."""
    if isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@pytest.fixture
def sidecars(full_archive):
    return [json.loads(full_archive.sidecar(key)) for key in full_archive.keys]


@pytest.fixture
def sidecar(sidecars):
    return copy.deepcopy(sidecars[0])


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"].endswith(f":{SCHEMA_VERSION}")


def test_every_sidecar_that_the_pipeline_writes_is_valid(sidecars):
    assert len(sidecars) == 10
    for sidecar in sidecars:
        assert faults(sidecar) == [], sidecar["master"]["key"]


@pytest.mark.parametrize(
    "chosen",
    [
        {"strength": 0.5, "texture": 0.25, "grain": True, "undistort": (0.1, -0.1)},
        {"rotations": True, "profiles": True, "cut_off": False, "large_faces": "tile"},
        {"mask": "soft", "output": "tiff", "weights": "a" * 64, "max_faces": 0},
        {"compatible": True, "output": "jpeg", "jpeg_quality": 80},
    ],
)
def test_sidecars_of_other_recipes_are_valid(archive, chosen):
    key = archive.deliver("a.png", scan(), [RESTORED], recipe=Recipe(**chosen))
    assert faults(json.loads(archive.sidecar(key))) == []


def test_a_sidecar_without_optional_networks_is_valid(archive, bench):
    key = archive.deliver("a.png", scan(), engine=bench.engine)
    assert faults(json.loads(archive.sidecar(key))) == []


def test_on_a_card_there_are_no_threads_to_tell_of(archive):
    identity = replace(IDENTITY, device="cuda:0 (a card)", threads=None, instructions=None)
    key = archive.deliver("a.png", scan(), engine=PageEngine([[RESTORED]], identity=identity))
    assert faults(json.loads(archive.sidecar(key))) == []


def test_the_schema_of_every_sealed_version_is_published():
    for number in range(SEALED_SINCE, SCHEMA_VERSION + 1):
        schema = json.loads((DOCS / "schema" / f"sidecar-{number}.json").read_text("utf-8"))
        assert schema["properties"]["schema_version"]["const"] == number


def test_a_missing_field_is_a_fault(sidecar):
    for name in SCHEMA["required"]:
        less = {key: value for key, value in sidecar.items() if key != name}
        assert faults(less), name


@pytest.mark.parametrize(
    "part", ["master", "derivative", "recipe", "engine", "environment", "proof", "identity"]
)
def test_a_missing_or_unknown_field_of_a_part_is_a_fault(sidecar, part):
    for name in list(sidecar[part]):
        less = copy.deepcopy(sidecar)
        del less[part][name]
        optional = SCHEMA["properties"][part]["properties"].keys() - set(
            SCHEMA["properties"][part]["required"]
        )
        assert bool(faults(less)) is (name not in optional), name
    sidecar[part]["surprise"] = 1
    assert faults(sidecar)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(surprise=1),
        lambda s: s.update(schema_version=2),
        lambda s: s.update(seal="A" * 64),
        lambda s: s.update(created_at="yesterday"),
        lambda s: s.update(pages=[]),
        lambda s: s["master"].update(sha256="0" * 63),
        lambda s: s["derivative"].update(bytes="12"),
        lambda s: s["by_hand"].update(leave=[[1]]),
        lambda s: s["timings_s"].pop("total"),
        lambda s: s["proof"].update(outside_regions="identical", samples_compared=-1),
        lambda s: s["proof"].update(outside_regions="not applicable", reason=""),
        lambda s: s["faces"][0].update(reason="too_small"),
        lambda s: s["faces"][0].pop("region"),
        lambda s: s["faces"][0].update(restored=False),
        lambda s: s["faces"][0].update(box=[1, 2, 3]),
        lambda s: s["recipe"].update(strength=1.5),
        lambda s: s["environment"].update(threads=0),
        lambda s: s["environment"]["versions"].pop("torch"),
    ],
)
def test_nonsense_is_a_fault(sidecar, change):
    assert faults(sidecar) == []
    change(sidecar)
    assert faults(sidecar)


def test_what_was_asked_for_by_hand_has_its_place(sidecar):
    sidecar["by_hand"] = {"leave": [[11.0, 12.5]], "keep_mask_sha256": "a" * 64}
    assert faults(sidecar) == []


def test_every_object_is_closed_and_every_field_described():
    for part in objects():
        assert part["additionalProperties"] is False
        assert part["description"]
        for name, field in part["properties"].items():
            assert field.get("description"), name


def test_the_schema_knows_the_words_of_the_code():
    face = SCHEMA["$defs"]["face"]["properties"]
    top = SCHEMA["properties"]
    assert set(face["reason"]["enum"]) == set(Reason)
    assert set(face["detail"]["enum"]) == set(Detail)
    assert set(top["precision"]["enum"]) == set(Precision)
    assert set(top["master"]["properties"]["container"]["enum"]) == set(Container)
    assert set(top["proof"]["properties"]["outside_regions"]["enum"]) == set(Proven)
    kinds = {content_type for _, content_type in KINDS.values()}
    assert set(top["derivative"]["properties"]["content_type"]["enum"]) == kinds


def test_the_schema_knows_every_setting_of_a_recipe():
    settings = SCHEMA["properties"]["recipe"]["properties"]
    assert list(settings) == list(Recipe.model_fields)
    for name, words in {
        "output": recipe.Output,
        "large_faces": recipe.LargeFaces,
        "mask": recipe.MaskKind,
        "background_scale": recipe.BackgroundScale,
    }.items():
        assert settings[name]["enum"] == list(get_args(words))


def test_the_page_explains_every_field_and_names_the_schema():
    page = (DOCS / "sidecar.md").read_text("utf-8")
    assert f"schema/sidecar-{SCHEMA_VERSION}.json" in page
    parts = [SCHEMA["properties"][name] for name in ("environment", "proof")]
    for part in (SCHEMA, SCHEMA["$defs"]["face"], *parts):
        for name in part["properties"]:
            assert f"`{name}`" in page, name


def test_an_engine_that_falls_back_is_valid(archive):
    engine = PageEngine([[RESTORED]])
    key = archive.deliver("a.png", scan(), engine=engine, recipe=Recipe(background_scale=1))
    sidecar = json.loads(archive.sidecar(key))
    assert sidecar["engine"]["background_precision"] == "fp32"
    assert faults(sidecar) == []
