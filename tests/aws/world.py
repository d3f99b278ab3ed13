"""All parts of the run: the stand-in with the stack in it, the recorder, the functions, the broker, the gateways."""

import json
import shutil
from pathlib import Path
from urllib.parse import quote_plus

from asks import ACCOUNT, REGION
from broker import Broker
from credentials import CredentialsProvider
from function import Function, Settings
from gateways import Gateway
from makers import notifications
from mapping import Mapping
from parts import Part, until
from policy import Grant
from recorder import Recorder
from rule import Rule
from stack import Stack
from stand_in import StandIn, client

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = [*sorted((ROOT / "contracts").glob("*.yaml")), Path(__file__).with_name("returns.yaml")]
BUCKET, PREFIX = "ingot-lake", "plant-7/"
# Small batches, so that many functions run at the same time.
PARAMETERS = {
    "BucketName": BUCKET,
    "LakePrefix": PREFIX,
    "BatchSize": "8",
    "BatchWindowSeconds": "1",
    "IngestConcurrency": "3",
    "GatewayDirectToS3": "true",
}
GATEWAYS = ["gw-plain", "gw-basic", "gw-bulk", "gw-unlucky"]
SECRET = "canary-of-the-pseudonym-key-0123456789abcdef"


class World:
    def __init__(self, bin, dir, seed):
        self.bin, self.dir, self.seed = bin, dir, seed
        self.logs = dir / "logs"
        self.logs.mkdir()
        self.stoppable = []
        self.functions = {}
        self.recorder = None

    def start(self):
        self.stand_in = self.with_end(StandIn(self.logs))
        self.stack = Stack(PARAMETERS, self.stand_in)
        self.recorder = self.with_end(Recorder(self.stand_in))
        self.recorder.denials = list(self.stack.bucket_denials())
        self.s3, self.sqs = self.stand_in.client("s3"), self.stand_in.client("sqs")
        self.credentials = {
            role: self.recorder.add_role(role, self.stack.known[role]["Arn"], self.stack.grants(role))
            for role in self.stack.of_type("AWS::IAM::Role")
            if role not in ("BulkRole",)
        }
        self.secrets = self.stand_in.client("secretsmanager")
        self.secrets.put_secret_value(SecretId=self.stack.ref("PseudonymKey"), SecretString=SECRET)
        self.endpoint = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.recorder.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": REGION,
        }
        self.lake = f"s3://{BUCKET}/{PREFIX}"
        self.task_root = self.package()
        for name, properties in self.stack.of_type("AWS::Lambda::Function").items():
            self.functions[name] = self.with_end(self.function(name, properties))
        (rule,) = self.stack.of_type("AWS::IoT::TopicRule").values()
        self.rule = Rule(rule, self.credentials["RuleRole"], self.recorder)
        self.broker = self.with_end(Broker(self.dir, self.logs, GATEWAYS))
        self.provider = self.with_end(
            CredentialsProvider(self.broker.dir, self.alias()["RoleAlias"], self.role_of_thing)
        )
        self.gateways = {name: Gateway(self.bin, self.dir, self.logs, name) for name in GATEWAYS}
        self.landing = self.with_end(self.land())
        # Before, messages of Basic Ingest are gone: a gateway takes it for AWS's own answer that nobody subscribes to them.
        until("`land` has subscribed to both topics", lambda: len(self.broker.filters("ingot-land")) == 2)

    def with_end(self, part):
        self.stoppable.append(part)
        return part

    def stop(self):
        for part in reversed(self.stoppable):
            part.stop()

    def package(self):
        """What the zip holds: the program under the name that Lambda starts, and the contracts beside it."""
        root = self.dir / "task"
        (root / "contracts").mkdir(parents=True)
        (root / "bootstrap").symlink_to(self.bin / "ingot-processor")
        for contract in CONTRACTS:
            shutil.copy(contract, root / "contracts")
        return root

    def function(self, name, properties):
        role = self.stack.role_named(properties["Role"])
        settings = Settings(
            name=name,
            arn=self.stack.known[name]["Arn"],
            role=role,
            timeout_s=int(properties["Timeout"]),
            memory_mb=int(properties["MemorySize"]),
            log_group=properties["LoggingConfig"]["LogGroup"],
            variables=properties["Environment"]["Variables"],
            task_root=self.task_root,
            logs=self.logs,
        )
        return Function(settings, self.credentials[role], self.endpoint)

    def mapping(self, function):
        """The event source mapping of the function, running."""
        arn = self.stack.known[function]["Arn"]
        (settings,) = (
            properties
            for properties in self.stack.of_type("AWS::Lambda::EventSourceMapping").values()
            if self.stack.ref(function) == properties["FunctionName"]
        )
        queue = next(
            name
            for name in self.stack.of_type("AWS::SQS::Queue")
            if self.stack.known[name]["Arn"] == settings["EventSourceArn"]
        )
        return self.with_end(
            Mapping(
                self.stand_in,
                self.recorder,
                self.functions[function],
                self.stack.ref(queue),
                settings,
                self.seed,
            )
        )

    def task(self, function):
        """The event with which the function's schedule calls it."""
        (target,) = (
            target
            for rule in self.stack.of_type("AWS::Events::Rule").values()
            for target in rule["Targets"]
            if target["Arn"] == self.functions[function].arn
        )
        return json.loads(target["Input"])

    def run_task(self, function, ahead_s=0):
        return self.functions[function].invoke(self.task(function), ahead_s)

    def ship_logs(self):
        for function in self.functions.values():
            function.ship_logs(client("logs", self.recorder.port, function.credentials))

    def alias(self):
        (alias,) = self.stack.of_type("AWS::IoT::RoleAlias").values()
        return alias

    def role_of_thing(self, thing):
        """A role behind an alias is another one for each thing: its policy may hold the thing's name."""
        role = self.stack.role_named(self.alias()["RoleArn"])
        named = [
            Grant(f"{role} of {thing}", grant.sid, grant.action, own(grant.resource, thing), grant.condition)
            for grant in self.stack.grants(role)
        ]
        return self.recorder.add_role(f"{role} of {thing}", self.stack.known[role]["Arn"], named)

    def land(self):
        mqtt = f"127.0.0.1:{self.broker.plain_port}"
        words = [self.bin / "ingot-processor", "land", "--lake", f"s3://{self.rule.s3['BucketName']}/{PREFIX}"]
        return Part(
            "land", self.logs, *words, "--mqtt", mqtt, env=self.credentials["RuleRole"] | self.endpoint
        )

    def without_events(self, act):
        """S3 tells nobody of what is put meanwhile."""
        (bucket,) = self.stack.of_type("AWS::S3::Bucket").values()
        self.s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})
        act()
        self.s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration=notifications(bucket)
        )

    def objects(self, prefix=""):
        """What a listing of the lake says."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX + prefix)
        return [object for page in pages for object in page.get("Contents", [])]

    def keys(self, prefix=""):
        """Keys below the lake."""
        return [object["Key"].removeprefix(PREFIX) for object in self.objects(prefix)]

    def created(self, key, size=1, etag="0"):
        """What S3's event says of an object below the lake."""
        named = {"key": quote_plus(PREFIX + key, safe="/"), "size": size, "eTag": etag}
        return {
            "eventSource": "aws:s3",
            "awsRegion": self.endpoint["AWS_REGION"],
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": named},
        }

    def put(self, files):
        for key, body in files.items():
            self.s3.put_object(Bucket=BUCKET, Key=PREFIX + key, Body=body, IfNoneMatch="*")


def own(resource, thing):
    return resource.replace("${credentials-iot:ThingName}", thing)
