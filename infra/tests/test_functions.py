"""Functions, their roles, and the alarms that watch them."""

import json
import re

from judge import FUNCTIONS, ROOT, Stack, as_list, may
from translate import template, translated


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
        # Those that an hour without work would end say nothing of their end.
        told = [] if name in ("MaintainAlarm", "AuditAlarm", "CatalogAlarm", "ObjectsRequeuedAlarm") else ["AlertTopic"]
        assert alarm["AlarmActions"] == ["AlertTopic"] and alarm.get("OKActions", []) == told, name
        for metric in [of["MetricStat"]["Metric"] for of in alarm.get("Metrics", []) if "MetricStat" in of]:
            if metric["Namespace"] == "AWS/Lambda":
                watched.add((metric["MetricName"], metric["Dimensions"][0]["Value"]))
    assert watched == {(metric, name) for metric in ["Errors", "Throttles"] for name in FUNCTIONS}


def test_what_an_audit_found_is_open_until_another_audit(stack):
    assert stack["AuditFindingsAlarm"]["TreatMissingData"] == "ignore"


def test_metrics_of_alarms_are_those_that_the_program_writes(stack):
    source = (ROOT / "processor/src/emf.rs").read_text()
    alarms = stack.of_type("AWS::CloudWatch::Alarm").values()
    metrics = [of["MetricStat"]["Metric"] for alarm in alarms for of in alarm.get("Metrics", []) if "MetricStat" in of]
    names = {of["MetricName"] for of in [*metrics, *alarms] if of.get("Namespace") == "Ingot"}
    assert names == {"RowsIn", "RowsDiscarded", "AuditFindings", "ObjectsRequeued"}
    assert all(f'"{name}"' in source for name in names)


def test_the_dashboard_is_json(stack):
    widgets = json.loads(stack["Dashboard"]["DashboardBody"])["widgets"]
    assert len(widgets) == 8 and all(of["properties"]["metrics"] for of in widgets)


def test_it_translates_and_names_what_the_documents_name():
    outputs = set(translated()["Outputs"])
    document = (ROOT / "docs/deploy-aws.md").read_text()
    named = set(re.findall(r"\$\(output (\w+)\)", document))
    assert named and named <= outputs
