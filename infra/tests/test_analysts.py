"""What analysts may read, held against the contracts."""

import re

import yaml
from judge import ROOT, Stack
from translate import template


def personal(contract: dict) -> list[str]:
    """The columns that `catalog sync` marks as personal: by classification, or by what becomes of them."""
    source = (ROOT / "processor/src/contract/columns.rs").read_text()
    words = re.findall(r'"(\w+)"', re.search(r"let words = \[([^]]+)\]", source)[1])
    columns = []
    for column in contract["schema"][0]["properties"]:
        redact = [of["value"] for of in column.get("customProperties", []) if of["property"] == "redact"]
        if column.get("classification", "").lower() in words or {"mask", "drop", "pseudonym"} & set(redact):
            columns.append(column["name"])
    return columns


def test_analysts_see_every_table_and_no_personal_column(stack):
    contracts = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "contracts").glob("*.yaml"))]
    # The views are those of docs/catalog.md; an order's key counts no rows of a device, so it has no latest ones.
    wanted = {"discard": ["record"], "ledger": [], "checks": []}
    wanted |= {view: [] for view in ["latest_sensor_readings", "discards_by_rule", "data_quality_by_day", "failing_checks"]}
    for contract in contracts:
        wanted[f"silver_{contract['id']}"] = personal(contract)
        gold = [of["value"] for of in contract["customProperties"] if of["property"] == "gold"]
        for query in gold[0]:
            wanted |= {f"gold_{query['name']}": [], query["name"]: []}
    assert wanted["silver_orders"] == ["customer_email", "phone"]
    granted = {}
    for of in stack.of_type("AWS::LakeFormation::PrincipalPermissions").values():
        resource = of["Resource"]
        if of["Principal"]["DataLakePrincipalIdentifier"] != stack.values["AnalystRoleArn"] or "Database" in resource:
            continue
        assert of["Permissions"] == ["SELECT"] and of["PermissionsWithGrantOption"] == []
        if table := resource.get("TableWithColumns"):
            granted[table["Name"]] = table["ColumnWildcard"]["ExcludedColumnNames"]
        else:
            # Of a view, a table without columns of its own, all is granted.
            assert not re.match("silver_|gold_", resource["Table"]["Name"])
            granted[resource["Table"]["Name"]] = []
    assert granted == wanted
    without = Stack(template(), AnalystRoleArn="")
    assert not [of for of in without.resources.values() if "LakeFormation" in of["Type"]]


def test_lake_formation_has_the_tables_and_not_the_results(stack):
    registered = {of["ResourceArn"] for of in stack.of_type("AWS::LakeFormation::Resource").values()}
    assert registered == {f"arn:aws:s3:::lake/{tier}" for tier in ["silver", "gold", "discard", "ledger", "checks"]}
    named = [of["Resource"]["DataLocation"] for of in stack.of_type("AWS::LakeFormation::PrincipalPermissions").values() if "DataLocation" in of["Resource"]]
    assert {of["ResourceArn"] for of in named} == registered


def test_a_query_has_a_limit_and_its_results_go(stack):
    settings = stack["Workgroup"]["WorkGroupConfiguration"]
    assert settings["EnforceWorkGroupConfiguration"] and int(settings["BytesScannedCutoffPerQuery"]) == 10**10
    assert settings["ResultConfiguration"]["OutputLocation"] == "s3://lake/athena-results/"
