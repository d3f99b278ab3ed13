"""Contracts are files of the published standard, and `contract lint` knows the standard's keys."""

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft201909Validator

WORKSPACE = Path(__file__).parents[2]
CONTRACTS = sorted((WORKSPACE / "contracts").glob("**/*.yaml"))
SCHEMA = json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text())


class Loader(yaml.SafeLoader):
    """YAML 1.2 as JSON has it: a time is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def problems(text: str) -> list[str]:
    found = Draft201909Validator(SCHEMA).iter_errors(yaml.load(text, Loader))
    return [f"{error.json_path}: {error.message}" for error in found]


def lint(bin: Path, path: Path) -> str:
    words = [bin / "ingot-processor", "contract", "lint", path]
    return subprocess.run(words, capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_a_shipped_contract_is_valid_by_the_published_schema(path):
    assert problems(path.read_text()) == []


def test_the_contract_of_the_document_is_valid_by_the_published_schema():
    document = (WORKSPACE / "docs/contracts.md").read_text()
    parts = re.findall(r"^cat >+ visits.yaml <<'END'\n(.*?)^END$", document, re.S | re.M)
    assert len(parts) == 4
    assert problems("".join(parts)) == []


def test_the_schema_finds_what_is_wrong():
    text = CONTRACTS[0].read_text()
    assert problems(text.replace("primaryKey:", "primarykey:")) != []
    assert problems(text.replace("status: active\n", "")) != []


def keys(*names: str) -> set[str]:
    """The keys of a definition and of all that it takes in by name."""
    found = set()
    for name in names:
        definition = SCHEMA["$defs"][name]
        found |= set(definition.get("properties", {}))
        for choice in definition.get("oneOf", []):
            found |= set(choice.get("properties", {}))
    return found


def test_lint_knows_every_key_of_the_standard(tmp_path, bin):
    quality = keys(
        "DataQuality", "DataQualityLibrary", "DataQualitySql", "DataQualityCustom", "DataQualityOperators"
    )
    column = keys("SchemaElement", "SchemaBaseProperty") | {"items", "properties"}
    table = keys("SchemaElement", "SchemaObject")
    assert min(map(len, (quality, column, table))) > 10

    def every(names: set[str], **values):
        return {name: values.get(name, "x") for name in sorted(names) + ["bogus"]}

    contract = every(
        set(SCHEMA["properties"]),
        schema=[every(table, properties=[every(column)], quality=[every(quality)])],
    )
    path = tmp_path / "every.yaml"
    path.write_text(yaml.safe_dump(contract))
    unknown = re.findall(r"(\w+) is no key of (a contract|an object of schema|a column|a quality rule)", lint(bin, path))
    what = ["a contract", "an object of schema", "a column", "a quality rule"]
    assert sorted(unknown) == sorted(("bogus", name) for name in what)
