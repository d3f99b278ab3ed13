"""Every lineage event follows the published OpenLineage schemas.

The package openlineage-python carries them as classes that are generated from them, one for each facet and
version; the events are held against these field by field, unknown fields and missing ones included.
"""

import enum
import importlib
import json
import re
import subprocess
import types
import typing
from pathlib import Path
from uuid import UUID

import attr
import pytest
from dateutil.parser import isoparse
from openlineage.client.generated import base

WORKSPACE = Path(__file__).parents[2]

ORDERS = """\
{"order_id":"A1","status":"paid","amount":19.99,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
{"order_id":"A2","status":"lost","amount":5,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
{"status":"paid","amount":5,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory, bin) -> list[dict]:
    lake = tmp_path_factory.mktemp("lake")
    lineage = lake / "lineage.ndjson"

    def run(contract: str, name: str, rows: str) -> None:
        (lake / "bronze/orders").mkdir(parents=True, exist_ok=True)
        (lake / f"bronze/orders/{name}.ndjson").write_text(rows)
        (lake / "orders.yaml").write_text(contract)
        words = ["run", "--lake", lake.as_uri(), "--lineage", lineage.as_uri()]
        words += ["--contract", str(lake / "orders.yaml")]
        subprocess.run([bin / "ingot-processor", *words], capture_output=True)

    contract = (WORKSPACE / "contracts/orders.yaml").read_text()
    run(contract, "first", ORDERS)
    # A check that stops the run ends it with FAIL.
    bad_status = contract.index("- id: bad_status")
    strict = contract[:bad_status] + contract[bad_status:].replace("severity: discard", "severity: fail", 1)
    run(strict, "second", ORDERS)
    return [json.loads(line) for line in lineage.read_text().splitlines()]


def facet_class(facet: dict, kind: type) -> type:
    """The class of the schema that the facet names; the schema's version must be the class's."""
    name = facet["_schemaURL"].rsplit("/", 1)[1]
    file = re.search(r"/(\w+)Facet\.json#", facet["_schemaURL"])[1]
    module = re.sub(r"(?<!^)(?=[A-Z])", "_", file).lower()
    found = getattr(importlib.import_module(f"openlineage.client.generated.{module}"), name)
    assert found._get_schema() == facet["_schemaURL"]
    assert issubclass(found, kind), f"{name} is no {kind.__name__}"
    return found


def check(value, kind, path: str) -> None:
    """Holds a JSON value against a type."""
    origin = typing.get_origin(kind)
    if kind is typing.Any:
        return
    if origin in (typing.Union, types.UnionType):
        kinds = [each for each in typing.get_args(kind) if each is not type(None)]
        assert value is not None, f"{path} is null"
        return check(value, kinds[0], path)
    if origin is list:
        assert isinstance(value, list), path
        for at, item in enumerate(value):
            check(item, typing.get_args(kind)[0], f"{path}[{at}]")
    elif origin is dict:
        assert isinstance(value, dict), path
        inner = typing.get_args(kind)[1]
        for key, item in value.items():
            is_facet = isinstance(inner, type) and issubclass(inner, base.BaseFacet)
            check(item, facet_class(item, inner) if is_facet else inner, f"{path}.{key}")
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        assert value in [each.value for each in kind], f"{path}: {value}"
    elif attr.has(kind):
        check_object(value, kind, path)
    elif kind is float:
        assert isinstance(value, (int, float)) and not isinstance(value, bool), path
    else:
        assert type(value) is kind, f"{path}: {value!r} is no {kind.__name__}"


def check_object(value: dict, kind: type, path: str) -> None:
    assert isinstance(value, dict), path
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in attr.fields(kind)}
    unknown = value.keys() - fields.keys()
    assert not unknown, f"{path}: {kind.__name__} has no {unknown}"
    for name, field in fields.items():
        is_base = name in ("_producer", "_schemaURL", "producer", "schemaURL")
        if name in value:
            check(value[name], hints[name], f"{path}.{name}")
        else:
            assert field.default is not attr.NOTHING and not is_base, f"{path}.{name} is missing"


def test_events_follow_the_published_schemas(events):
    assert [event["eventType"] for event in events] == ["START", "COMPLETE", "START", "FAIL"]
    for event in events:
        check(event, base.RunEvent, event["eventType"])
        assert event["schemaURL"] == base.RunEvent._get_schema()
        UUID(event["run"]["runId"])
        isoparse(event["eventTime"])


def test_a_failed_run_says_why_and_a_complete_one_has_every_facet(events):
    assert "severity fail" in events[3]["run"]["facets"]["errorMessage"]["message"]
    complete = events[1]
    assert set(complete["inputs"][0]["inputFacets"]) == {"dataQualityAssertions", "dataQualityMetrics"}
    for output in complete["outputs"]:
        assert "outputStatistics" in output["outputFacets"], output["name"]
    tables = {output["name"].rsplit("/bronze")[0].split("/")[-1] for output in complete["outputs"]}
    assert {"discard", "ledger", "orders", "orders_daily"} <= tables


@pytest.mark.parametrize(
    "spoil",
    [
        lambda event: event["run"].update(name="x"),
        lambda event: event["job"].pop("namespace"),
        lambda event: event.update(eventType="DONE"),
        lambda event: event["outputs"][0]["outputFacets"]["outputStatistics"].update(rowCount="1"),
        lambda event: event["outputs"][0]["facets"]["columnLineage"]["fields"]["dt"].pop("inputFields"),
    ],
)
def test_the_check_finds_what_is_wrong(events, spoil):
    event = json.loads(json.dumps(events[1]))
    spoil(event)
    with pytest.raises(AssertionError):
        check(event, base.RunEvent, "event")
