"""What the template promises, held against the documents, the contracts and the gateway's code.

Run by `tests/run infra`. Policies are judged by a small evaluator ([may]): patterns, variables and the conditions that the
template has; an explicit deny wins.
"""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from translate import template, translated

ROOT = Path(__file__).parents[1]
ACCOUNT = "111122223333"
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": ACCOUNT, "AWS::StackName": "ingot"}
WANTED = {"BucketName": "lake", "LakePrefix": "", "GatewayDirectToS3": "true", "AnalystRoleArn": "arn:aws:iam::1:role/ann"}
NOTHING = {"Ref": "AWS::NoValue"}
FUNCTIONS = ["Ingest", "Reingest", "Gold", "Maintain", "Audit", "Catalog"]


class Stack:
    """The template's resources with their parameters put in; what AWS alone knows is named by its logical name."""

    def __init__(self, source: dict, **parameters: str):
        self.source = source
        defaults = {name: str(of.get("Default", "")) for name, of in source["Parameters"].items()}
        self.values = PSEUDO | defaults | WANTED | parameters
        self.resources = {
            name: self.resolve(of)
            for name, of in source["Resources"].items()
            if "Condition" not in of or self.holds(of["Condition"])
        }

    def holds(self, name: str) -> bool:
        return self.judge(self.source["Conditions"][name])

    def judge(self, test: dict) -> bool:
        ((word, of),) = test.items()
        match word:
            case "Fn::Equals":
                return len({self.resolve(one) for one in of}) == 1
            case "Fn::Not":
                return not self.judge(of[0])
        raise AssertionError(word)

    def resolve(self, value):
        if isinstance(value, list):
            return [self.resolve(one) for one in value if self.resolve(one) != NOTHING]
        if not isinstance(value, dict):
            return value
        if value == NOTHING:
            return value
        if len(value) == 1:
            ((word, of),) = value.items()
            match word:
                case "Ref":
                    return self.values.get(of, of)
                case "Fn::GetAtt":
                    return f"{of[0]}.{of[1]}"
                case "Fn::If":
                    return self.resolve(of[1] if self.holds(of[0]) else of[2])
                case "Fn::Sub":
                    text = re.sub(r"\$\{([^!}]+)\}", lambda found: self.values.get(found[1], found[1]), of)
                    return text.replace("${!", "${")
        resolved = {name: self.resolve(of) for name, of in value.items()}
        return {name: of for name, of in resolved.items() if of != NOTHING}

    def of_type(self, wanted: str) -> dict[str, dict]:
        found = {name: of for name, of in self.resources.items() if of["Type"] == wanted}
        return {name: of.get("Properties", {}) for name, of in found.items()}

    def __getitem__(self, name: str) -> dict:
        return self.resources[name]["Properties"]

    def grants(self, role: str) -> list[dict]:
        (policy,) = self[role]["Policies"]
        assert policy["PolicyName"] == "grants"
        return policy["PolicyDocument"]["Statement"]


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def may(statements: list[dict], action: str, resource: str, variables=(), **context: str) -> bool:
    """Whether the statements let this be done. `context` has condition keys with `_` for `:`."""
    variables, context = dict(variables), {name.replace("__", ":").replace("_", "-"): of for name, of in context.items()}

    def is_like(pattern: str, text: str) -> bool:
        for name, value in variables.items():
            pattern = pattern.replace(f"${{{name}}}", value)
        assert "${" not in pattern, pattern
        return fnmatchcase(text, pattern.replace("[", "[[]"))

    def applies(statement: dict) -> bool:
        for operator, tests in statement.get("Condition", {}).items():
            for key, wanted in tests.items():
                found = context.get(key)
                match operator:
                    case "Null":
                        fits = (found is None) == (wanted == "true")
                    case "Bool" | "StringEquals" | "ArnEquals":
                        fits = found in as_list(wanted)
                    case "ArnNotEquals":
                        fits = found not in as_list(wanted)
                    case "StringLikeIfExists":
                        fits = found is None or any(is_like(pattern, found) for pattern in as_list(wanted))
                    case _:
                        raise AssertionError(operator)
                if not fits:
                    return False
        return any(is_like(one, action) for one in as_list(statement["Action"])) and any(
            is_like(one, resource) for one in as_list(statement["Resource"])
        )

    effects = {statement["Effect"] for statement in statements if applies(statement)}
    return effects == {"Allow"}


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack(template())


# From the gateway to bronze


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


# The bucket


def bucket_may(stack: Stack, action: str, key: str, role: str, **context: str) -> bool:
    everybody = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    context = {"aws__SecureTransport": "true", "aws__PrincipalArn": role} | context
    return may(everybody + stack["BucketPolicy"]["PolicyDocument"]["Statement"], action, f"arn:aws:s3:::lake/{key}", **context)


def test_bronze_is_written_once(stack):
    key, whole, once = "bronze/orders/a.csv", {"s3__ObjectCreationOperation": "true"}, {"s3__if_none_match": "*"}
    for role in [f"{name}Role.Arn" for name in ["Ingest", "Reingest", "Maintain", "Bulk"]] + ["arn:aws:iam::1:user/root"]:
        assert not bucket_may(stack, "s3:PutObject", key, role, **whole)
        assert bucket_may(stack, "s3:PutObject", key, role, **whole, **once)
    part = {"s3__ObjectCreationOperation": "false"}
    assert bucket_may(stack, "s3:PutObject", key, "IngestRole.Arn", **part)
    # An IoT rule cannot say "only if there is nothing", and forgetting rewrites.
    for role in ["RuleRole.Arn", "OperatorRole.Arn"]:
        assert bucket_may(stack, "s3:PutObject", key, role, **whole)
    assert bucket_may(stack, "s3:PutObject", "silver/orders/_delta_log/_last_checkpoint", "IngestRole.Arn", **whole)


def test_bronze_is_removed_by_retention_and_operators_alone(stack):
    for role, fits in [("MaintainRole.Arn", True), ("OperatorRole.Arn", True), ("IngestRole.Arn", False), ("RuleRole.Arn", False)]:
        assert bucket_may(stack, "s3:DeleteObject", "bronze/orders/a.csv", role) == fits


def test_the_bucket_is_private_encrypted_and_stays(stack):
    assert not bucket_may(stack, "s3:GetObject", "ledger/x", "IngestRole.Arn", aws__SecureTransport="false")
    bucket = stack["Bucket"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    keyed = Stack(template(), BucketEncryption="aws:kms")["Bucket"]["BucketEncryption"]
    (rule,) = keyed["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] and rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "Key.Arn"
    assert stack.resources["Bucket"]["DeletionPolicy"] == "Retain"
    # A lifecycle that expired rows behind the books' back would look like loss.
    expiring = [of.get("Prefix") for of in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in of]
    assert expiring == ["athena-results/"]


# Queues


def test_every_queue_is_closed_and_what_fails_is_seen(stack):
    queues, policies = stack.of_type("AWS::SQS::Queue"), stack.of_type("AWS::SQS::QueuePolicy").values()
    watched = {
        (of.get("MetricName"), dimension["Value"].removesuffix(".QueueName"))
        for of in stack.of_type("AWS::CloudWatch::Alarm").values()
        for dimension in of.get("Dimensions", [])
    }
    for name, queue in queues.items():
        assert queue["SqsManagedSseEnabled"], name
        (policy,) = [of for of in policies if of["Queues"] == [name]]
        closed = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": f"{name}.Arn"}
        closed |= {"Sid": "OnlyOverTls", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        assert closed in policy["PolicyDocument"]["Statement"], name
        if "RedrivePolicy" in queue:
            dead = queue["RedrivePolicy"]["deadLetterTargetArn"].removesuffix(".Arn")
            assert "RedrivePolicy" not in queues[dead]
            assert ("ApproximateAgeOfOldestMessage", name) in watched
        else:
            assert ("ApproximateNumberOfMessagesVisible", name) in watched, name


def test_the_bronze_queue_listens_to_the_lake_alone(stack):
    allowed = [of for of in stack["BronzeQueuePolicy"]["PolicyDocument"]["Statement"] if of["Effect"] == "Allow"]
    (statement,) = allowed
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    for bucket, account, fits in [("lake", ACCOUNT, True), ("other", ACCOUNT, False), ("lake", "999999999999", False)]:
        context = {"aws__SourceArn": f"arn:aws:s3:::{bucket}", "aws__SourceAccount": account}
        assert may(allowed, "sqs:SendMessage", "BronzeQueue.Arn", **context) == fits


def test_a_message_is_not_handed_out_twice_while_its_function_works(stack):
    timeout = stack.source["Globals"]["Function"]["Timeout"]
    read = set()
    for name, function in stack.of_type("AWS::Serverless::Function").items():
        for event in function["Events"].values():
            if event["Type"] == "SQS":
                queue = event["Properties"]["Queue"].removesuffix(".Arn")
                assert stack[queue]["VisibilityTimeout"] >= 6 * function.get("Timeout", timeout), name
                assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
                assert int(event["Properties"]["ScalingConfig"]["MaximumConcurrency"]) >= 2
                read.add(queue)
    assert read == {"BronzeQueue", "RuleErrorQueue"}


# Functions and their roles


def test_each_function_has_a_role_and_a_log_of_its_own(stack):
    functions = stack.of_type("AWS::Serverless::Function")
    assert list(functions) == FUNCTIONS
    for name, function in functions.items():
        assert function["Role"] == f"{name}Role.Arn"
        assert function["LoggingConfig"] == {"LogGroup": f"{name}Log"}
        assert stack[f"{name}Log"]["RetentionInDays"]
        (trust,) = stack[f"{name}Role"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}
        logs = [of for of in stack.grants(f"{name}Role") if of["Sid"] == "ByLambdaLogs"]
        assert [of["Resource"] for of in logs] == [f"{name}Log.Arn"]
    shared = template()["Globals"]["Function"]
    assert (shared["Runtime"], shared["Architectures"], shared["Handler"]) == ("provided.al2023", ["arm64"], "bootstrap")


def test_no_role_may_everything(stack):
    # Neither can be narrowed: the service knows no resource for them.
    unnamed = {"iot:RegisterThing", "lakeformation:GetDataAccess"}
    for role in stack.of_type("AWS::IAM::Role"):
        sids = [of["Sid"] for of in stack.grants(role)]
        assert len(sids) == len(set(sids)), role
        for statement in stack.grants(role):
            actions = as_list(statement["Action"])
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in actions), (role, statement["Sid"])
            if "*" in as_list(statement["Resource"]):
                assert set(actions) <= unnamed, (role, statement["Sid"])


def test_listing_is_bound_to_the_lake_and_missing_is_not_denied():
    stack = Stack(template(), LakePrefix="fleet/")
    for role in ["IngestRole", "OperatorRole"]:
        grants = stack.grants(role)
        assert may(grants, "s3:ListBucket", "arn:aws:s3:::lake", s3__prefix="fleet/silver/")
        assert not may(grants, "s3:ListBucket", "arn:aws:s3:::lake", s3__prefix="other/")
        # S3 looks for this right when an object is not there; then there is no prefix.
        assert may(grants, "s3:ListBucket", "arn:aws:s3:::lake")


def test_only_who_needs_it_may_read_personal_data_or_the_key(stack):
    def who_may(action: str, resource: str) -> set[str]:
        roles = set(stack.of_type("AWS::IAM::Role"))
        thing = {"credentials-iot:ThingName": "gw-a"}
        return {role for role in roles if may(stack.grants(role), action, resource, thing)}

    assert who_may("s3:GetObject", "arn:aws:s3:::lake/bronze/orders/a.csv") == {"IngestRole", "MaintainRole", "OperatorRole"}
    assert who_may("secretsmanager:GetSecretValue", "PseudonymKey") == {"IngestRole", "OperatorRole"}
    assert who_may("s3:DeleteObject", "arn:aws:s3:::lake/bronze/orders/a.csv") == {"MaintainRole", "OperatorRole"}
    assert who_may("s3:DeleteObject", "arn:aws:s3:::lake/silver/orders/dt=2026-01-01/part-0.parquet") == {"MaintainRole", "OperatorRole"}


def test_schedules_hand_over_the_tasks(stack):
    tasks = {}
    for name, function in stack.of_type("AWS::Serverless::Function").items():
        for event in function["Events"].values():
            if event["Type"] == "Schedule":
                tasks[name] = json.loads(event["Properties"]["Input"])["task"]
                assert event["Properties"]["DeadLetterConfig"] == {"Arn": "TaskDeadLetters.Arn"}
    assert tasks == {"Gold": "gold", "Maintain": "maintain", "Audit": "audit", "Catalog": "catalog"}


def test_every_function_has_an_alarm_and_every_alarm_is_told(stack):
    watched = set()
    for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlertTopic"], name
        for metric in [of["MetricStat"]["Metric"] for of in alarm.get("Metrics", []) if "MetricStat" in of]:
            if metric["Namespace"] == "AWS/Lambda":
                watched.add((metric["MetricName"], metric["Dimensions"][0]["Value"]))
    assert watched == {(metric, name) for metric in ["Errors", "Throttles"] for name in FUNCTIONS}


def test_metrics_of_alarms_are_those_that_the_program_writes(stack):
    source = (ROOT / "processor/src/emf.rs").read_text()
    alarms = stack.of_type("AWS::CloudWatch::Alarm").values()
    metrics = [of["MetricStat"]["Metric"] for alarm in alarms for of in alarm.get("Metrics", []) if "MetricStat" in of]
    names = {of["MetricName"] for of in [*metrics, *alarms] if of.get("Namespace") == "Ingot"}
    assert names == {"RowsIn", "RowsDiscarded", "AuditFindings", "ObjectsRequeued"}
    assert all(f'"{name}"' in source for name in names)


# Analysts


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
        if table := of["Resource"].get("TableWithColumns"):
            assert of["Permissions"] == ["SELECT"] and of["PermissionsWithGrantOption"] == []
            granted[table["Name"]] = table["ColumnWildcard"]["ExcludedColumnNames"]
    assert granted == wanted
    without = Stack(template(), AnalystRoleArn="")
    assert not [of for of in without.resources.values() if "LakeFormation" in of["Type"]]


def test_a_query_has_a_limit_and_its_results_go(stack):
    settings = stack["Workgroup"]["WorkGroupConfiguration"]
    assert settings["EnforceWorkGroupConfiguration"] and int(settings["BytesScannedCutoffPerQuery"]) == 10**10
    assert settings["ResultConfiguration"]["OutputLocation"] == "s3://lake/athena-results/"


# The whole


def test_the_dashboard_is_json(stack):
    widgets = json.loads(stack["Dashboard"]["DashboardBody"])["widgets"]
    assert len(widgets) == 8 and all(of["properties"]["metrics"] for of in widgets)


def test_it_translates_and_names_what_the_documents_name():
    outputs = set(translated()["Outputs"])
    document = (ROOT / "docs/deploy-aws.md").read_text()
    named = set(re.findall(r"\$\(output (\w+)\)", document))
    assert named and named <= outputs
