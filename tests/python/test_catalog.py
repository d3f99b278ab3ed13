"""Every statement of `catalog sync` is one that Athena can read.

sqlglot parses it in Athena's dialect, and resolves each column against the tables that the catalog has: what is
misspelled or lives in another dialect is found without an account.
"""

import json
import subprocess
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

WORKSPACE = Path(__file__).parents[2]

ROWS = {
    "orders/a": '{"order_id":"A1","status":"paid","amount":1,"currency":"EUR","created_at":"2026-01-01T10:00:00Z"}\n',
    "sensor_readings/a": '{"device":"d","boot":1,"seq":0,"channel":"humidity","value":40.5,"at":"2026-01-01T10:00:00Z"}\n',
    "web_events/a": '{"event_id":"0190b5a27c1e4d7a","kind":"view","page":"/","at":"2026-01-01T10:00:00Z"}\n',
}
CONTRACTS = ["sensor_readings.yaml", "orders.yaml", "examples/web_events.yaml"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory, bin) -> dict:
    lake = tmp_path_factory.mktemp("lake")
    for name, rows in ROWS.items():
        file = lake / f"bronze/{name}.ndjson"
        file.parent.mkdir(parents=True)
        file.write_text(rows)
    contracts = [word for name in CONTRACTS for word in ("--contract", str(WORKSPACE / "contracts" / name))]

    def processor(*words: str) -> bytes:
        return subprocess.check_output([bin / "ingot-processor", *words, "--lake", lake.as_uri(), *contracts])

    processor("run")
    return json.loads(processor("catalog", "show", "--database", "ingot", "--format", "json"))


def resolved(catalog: dict, select: str) -> exp.Expression:
    """The SELECT with every column held against the catalog."""
    columns = {
        table["name"]: {column["name"]: column["hive_type"] for column in table["columns"]}
        for table in catalog["tables"]
    }
    tree = sqlglot.parse_one(select, dialect="athena")
    return qualify(tree, schema={"ingot": columns}, dialect="athena", validate_qualify_columns=True)


def test_the_views_are_there(catalog):
    names = {view["name"] for view in catalog["views"]}
    wanted = {"latest_sensor_readings", "sensor_hourly", "discards_by_rule", "data_quality_by_day", "orders_by_status"}
    assert wanted <= names


def test_each_statement_is_one_view_in_athenas_dialect(catalog):
    for view in catalog["views"]:
        statements = sqlglot.parse(view["statement"], dialect="athena")
        assert len(statements) == 1, view["name"]
        assert isinstance(statements[0], exp.Create), view["name"]
        assert (statements[0].kind, statements[0].args["replace"]) == ("VIEW", True), view["name"]
        assert statements[0].this.name == view["name"]


def test_each_column_of_a_view_is_one_of_its_table(catalog):
    for view in catalog["views"]:
        tree = resolved(catalog, view["select"])
        assert {table.name for table in tree.find_all(exp.Table) if table.db} == {view["base"]}
        assert all(tree.named_selects), view["name"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda select: select.replace("processed_at", "processed"),
        lambda select: select.replace("GROUP BY", "GROUP"),
        lambda select: select.replace('"ledger"', '"ledgers"'),
    ],
)
def test_the_check_finds_what_is_wrong(catalog, spoil):
    select = next(view["select"] for view in catalog["views"] if view["name"] == "data_quality_by_day")
    with pytest.raises((SqlglotError, AssertionError)):
        tree = resolved(catalog, spoil(select))
        assert {table.name for table in tree.find_all(exp.Table) if table.db} == {"ledger"}
