"""The commands of docs/deploy-aws.md: the shell's words are words, and AWS knows each operation and each of its options."""

import re
import subprocess

import botocore.session
import pytest
from botocore import xform_name
from judge import ROOT

TEXT = (ROOT / "docs/deploy-aws.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
# The command line's own, for every operation.
GENERAL = {"query", "output", "cli-binary-format", "no-paginate", "max-items"}
# Options that the command line has in place of the service's answer.
SPECIAL = {"create-keys-and-certificate": {"certificate-pem-outfile", "private-key-outfile"}}


def calls():
    """Service, operation and options of every `aws` in the document, and whether it is whole: in a sentence it may be half."""
    mentions = re.findall(r"`(aws [^`]+)`", TEXT)
    for text, whole in [(text, True) for text in BLOCKS] + [(text, False) for text in mentions]:
        text = re.sub(r"(?<=\s)#.*", "", text.replace("\\\n", " "))
        starts = list(re.finditer(r"\baws ([a-z][a-z0-9-]*)\s+([a-z-]+)", text))
        for start, after in zip(starts, [*starts[1:], None]):
            rest = text[start.end() : after.start() if after else None]
            yield start[1], start[2], set(re.findall(r"\s--([a-z-]+)", own(rest))), whole


def own(rest):
    """Up to where the command ends: a line, or the bracket in which it stands."""
    depth = 0
    for place, sign in enumerate(rest):
        depth += (sign == "(") - (sign == ")")
        if depth < 0 or sign == "\n" and depth == 0:
            return rest[:place]
    return rest


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_are_bash(block):
    read = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr


def test_aws_knows_the_operations_and_their_options():
    session, seen = botocore.session.get_session(), set()
    for service, operation, options, whole in calls():
        if service == "s3":
            assert operation in ("cp", "rb"), operation
            continue
        model = session.get_service_model({"s3api": "s3"}.get(service, service))
        name = {xform_name(name, "-"): name for name in model.operation_names}[operation]
        members = {xform_name(member, "-") for member in model.operation_model(name).input_shape.members}
        unknown = options - members - GENERAL - SPECIAL.get(operation, set())
        assert not unknown, f"aws {service} {operation}: {unknown}"
        required = {xform_name(member, "-") for member in model.operation_model(name).input_shape.required_members}
        assert required <= options or not whole, f"aws {service} {operation}: {required - options}"
        seen.add((service, operation))
    assert len(seen) > 15, seen
