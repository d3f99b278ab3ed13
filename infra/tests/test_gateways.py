"""From a gateway to bronze: policies, rule, direct path, claim; held against the documents and the code of the gateway."""

import json
import re

import pytest
from judge import ACCOUNT, FUNCTIONS, ROOT, Stack, as_list, may
from translate import template


def test_the_rule_writes_the_key_of_the_wire_format(stack):
    rule = stack["BronzeRule"]
    payload = rule["TopicRulePayload"]
    assert (rule["RuleName"], payload["Sql"]) == ("ingot_bronze", "SELECT * FROM 'ingot/bronze/+/+/+'")
    assert payload["AwsIotSqlVersion"] == "2016-03-23"
    document = (ROOT / "docs/wire-format.md").read_text()
    topic = re.search(r"MQTT topic: `([^`]+)`", document)[1]
    basic = re.search(r"with Basic Ingest,\s+`([^`]+)`", document)[1]
    key = re.search(r"Bronze key: `([^`]+)`", document)[1]
    assert basic == f"$aws/rules/{rule['RuleName']}/"
    for published in [topic, basic + topic]:
        # topic(n) does not count the levels of Basic Ingest.
        levels = published.removeprefix(basic).split("/")
        written = payload["Actions"][0]["S3"]["Key"]
        written = re.sub(r"\$\{topic\((\d)\)\}", lambda found: levels[int(found[1]) - 1], written)
        assert written == key


def test_a_prefix_stands_before_bronze_everywhere():
    stack = Stack(template(), LakePrefix="fleet/a/")
    assert stack["BronzeRule"]["TopicRulePayload"]["Actions"][0]["S3"]["Key"].startswith("fleet/a/bronze/")
    rules = stack["Bucket"]["NotificationConfiguration"]["QueueConfigurations"][0]["Filter"]["S3Key"]["Rules"]
    assert rules == [{"Name": "prefix", "Value": "fleet/a/bronze/"}]
    for role in [f"{name}Role" for name in [*FUNCTIONS, "Rule", "Bulk", "Operator"]]:
        for statement in stack.grants(role):
            for resource in as_list(statement["Resource"]):
                tier = resource.removeprefix("arn:aws:s3:::lake/")
                assert tier == resource or tier.startswith(("fleet/a/", "athena-results/")), (role, resource)
    assert template()["Globals"]["Function"]["Environment"]["Variables"]["INGOT_LAKE"] == {
        "Fn::Sub": "s3://${BucketName}/${LakePrefix}"
    }


def gateway(stack: Stack, name: str, action: str, resource: str) -> bool:
    statements = stack["GatewayPolicy"]["PolicyDocument"]["Statement"]
    arn = f"arn:aws:iot:eu-west-1:{ACCOUNT}:{resource}"
    return may(statements, action, arn, {"iot:Connection.Thing.ThingName": name})


@pytest.mark.parametrize(
    "action, resource",
    [
        ("iot:Connect", "client/{}"),
        ("iot:Publish", "topic/ingot/bronze/{}/2026-01-01/00000000000012ab-0000000007"),
        ("iot:Publish", "topic/$aws/rules/ingot_bronze/ingot/bronze/{}/2026-01-01/00000000000012ab-0000000007"),
        ("iot:Publish", "topic/ingot/status/{}"),
        ("iot:RetainPublish", "topic/ingot/status/{}"),
        ("iot:Subscribe", "topicfilter/ingot/contract/{}"),
        ("iot:Receive", "topic/ingot/contract/{}"),
    ],
)
def test_a_gateway_speaks_under_its_own_name_alone(stack, action, resource):
    assert gateway(stack, "gw-a", action, resource.format("gw-a"))
    assert not gateway(stack, "gw-a", action, resource.format("gw-b"))
    assert not gateway(stack, "gw-a", action, resource.format("gw-a-2"))


@pytest.mark.parametrize(
    "action, resource",
    [
        ("iot:Publish", "topic/ingot/contract/gw-a"),
        ("iot:Publish", "topic/$aws/rules/another/ingot/bronze/gw-a/2026-01-01/x"),
        ("iot:RetainPublish", "topic/ingot/bronze/gw-a/2026-01-01/x"),
        ("iot:Subscribe", "topicfilter/ingot/#"),
        ("iot:Subscribe", "topicfilter/ingot/bronze/gw-a/#"),
        ("iot:Publish", "topic/$aws/certificates/create-from-csr/json"),
    ],
)
def test_a_gateway_may_nothing_else(stack, action, resource):
    assert not gateway(stack, "gw-a", action, resource)


def test_the_policy_is_the_one_that_provision_create_would_make(stack):
    assert stack["GatewayPolicy"]["PolicyName"] == "ingot-gateway"  # its default, --policy
    source = (ROOT / "gateway/src/provision/policy.rs").read_text()
    in_the_gateway = {text.split(":", 5)[5] for text in re.findall(r'"(arn:aws:iot:[^"]+/[^"]+)"', source)}
    statements = stack["GatewayPolicy"]["PolicyDocument"]["Statement"]
    here = {resource.split(":", 5)[5] for of in statements for resource in as_list(of["Resource"])}
    assert len(in_the_gateway) == 5 and here - in_the_gateway == {
        "rolealias/ingot-bulk",
        "topic/ingot/status/${iot:Connection.Thing.ThingName}",
        "topic/ingot/contract/${iot:Connection.Thing.ThingName}",
    }
    actions = [action for of in statements for action in as_list(of["Action"])]
    assert actions == re.findall(r'json!\("(iot:\w+)"\)', source)
    # The gateway compares documents as JSON: the form counts, too.
    assert all(set(of) == {"Effect", "Action", "Resource"} and isinstance(of["Action"], str) for of in statements)
    without = Stack(template(), GatewayDirectToS3="false")["GatewayPolicy"]["PolicyDocument"]["Statement"]
    assert without == statements[:-1]


def test_the_direct_path_ends_at_the_gateways_own_folder(stack):
    def put(key: str) -> bool:
        thing = {"credentials-iot:ThingName": "gw-a"}
        return may(stack.grants("BulkRole"), "s3:PutObject", f"arn:aws:s3:::lake/{key}", thing)

    assert put("bronze/sensor_readings/dt=2026-01-01/gateway=gw-a/00000000000012ab-0000000007.ingot")
    assert not put("bronze/sensor_readings/dt=2026-01-01/gateway=gw-b/00000000000012ab-0000000007.ingot")
    assert not put("bronze/sensor_readings/dt=2026-01-01/gateway=gw-b/gateway=gw-a/0.ingot")
    assert not put("bronze/sensor_readings/dt=2026-01-01/gateway=gw-a/0.ndjson")
    assert not put("bronze/orders/dt=2026-01-01/gateway=gw-a/0.ingot")
    assert "BulkRole" not in Stack(template(), GatewayDirectToS3="false").resources


def test_a_claim_is_traded_for_a_gateway_and_for_nothing_else(stack):
    fleet = json.loads(stack["FleetTemplate"]["TemplateBody"])
    certificate = fleet["Resources"]["certificate"]["Properties"]
    assert certificate == {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}
    assert fleet["Resources"]["thing"]["Properties"]["ThingName"] == {"Ref": "ThingName"}
    assert fleet["Resources"]["policy"]["Properties"]["PolicyName"] == "GatewayPolicy"  # by its logical name
    # What `provision claim` sends of itself; all else must have a default.
    wanted = {name for name, of in fleet["Parameters"].items() if "Default" not in of}
    assert wanted == {"ThingName", "AWS::IoT::Certificate::Id"}
    document = (ROOT / "docs/provisioning.md").read_text()
    assert f"--template {stack['FleetTemplate']['TemplateName']}" in document
    assert set(re.findall(r"--parameter (\w+)=", document)) <= set(fleet["Parameters"])

    statements = stack["ClaimPolicy"]["PolicyDocument"]["Statement"]
    for action, resource, fits in [
        ("iot:Connect", "client/gw-a-claim", True),
        ("iot:Connect", "client/gw-a", False),
        ("iot:Publish", "topic/$aws/certificates/create-from-csr/json", True),
        ("iot:Subscribe", "topicfilter/$aws/certificates/create-from-csr/json/accepted", True),
        ("iot:Receive", "topic/$aws/certificates/create-from-csr/json/rejected", True),
        ("iot:Publish", "topic/$aws/provisioning-templates/ingot-fleet/provision/json", True),
        ("iot:Receive", "topic/$aws/provisioning-templates/ingot-fleet/provision/json/accepted", True),
        ("iot:Publish", "topic/$aws/provisioning-templates/another/provision/json", False),
        ("iot:Publish", "topic/ingot/bronze/gw-a/2026-01-01/x", False),
    ]:
        assert may(statements, action, f"arn:aws:iot:eu-west-1:{ACCOUNT}:{resource}") == fits, (action, resource)
    assert stack["FleetTemplate"]["Enabled"] == "false"
