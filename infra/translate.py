"""The template as plain CloudFormation, offline: python3 infra/translate.py [--code s3://BUCKET/KEY] > stack.json

SAM's own translator does it, as AWS would at a deployment. CloudFormation's short forms (`!Sub`) become long ones, and the
local zip of the functions becomes `--code`, which need not exist.
"""

import argparse
import json
import os
from pathlib import Path

import yaml

TEMPLATE = Path(__file__).with_name("template.yaml")


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _short_form(loader: Loader, name: str, node: yaml.Node) -> dict:
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", _short_form)


def template() -> dict:
    """The template as it is written, in long forms."""
    return yaml.load(TEMPLATE.read_text(), Loader)


def translated(code: str = "s3://code/ingot-processor.zip") -> dict:
    """The template as CloudFormation takes it."""
    # The region decides about a partition; nothing is asked there.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    from samtranslator.translator.transform import transform

    class NoManagedPolicies:
        def load(self):
            return {}

    source = template()
    source["Globals"]["Function"]["CodeUri"] = code
    return transform(source, {}, NoManagedPolicies())


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--code", default="s3://code/ingot-processor.zip", help="where the functions' zip is")
    print(json.dumps(translated(words.parse_args().code), indent=1))


if __name__ == "__main__":
    main()
