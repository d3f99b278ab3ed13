"""The first act: the road from the sensors to gold under the worst that queues and rules may do, and the judgment.

Each step does one thing, asserts it, and tells what it saw.
"""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import files
import judge
from fleet import Fleet
from mapping import waiting
from parts import until
from world import BUCKET, GATEWAYS, PREFIX

PLAIN, BASIC, BULK, UNLUCKY = GATEWAYS
BASIC_INGEST = "$aws/rules/ingot_bronze/"
AN_HOUR_AND_MORE = 2 * 60 * 60


class Road:
    def __init__(self, world, tell):
        self.world, self.tell = world, tell
        self.sent = Counter()  # frames, by gateway

    def run(self):
        self.steps = [
            self.the_stack,
            self.early_readings,
            self.orders_and_returns,
            self.a_right_is_missing,
            self.an_alert_opens,
            self.late_readings,
            self.the_rule_fails,
            self.the_backlog_goes_to_s3,
            self.the_alert_resolves,
            self.a_lost_event,
            self.poison,
            self.the_catalog,
            self.the_books,
        ]
        for step in self.steps:
            step()

    def the_stack(self):
        stack = self.world.stack
        kinds = Counter(kind.removeprefix("AWS::") for kind, _ in stack.resources.values())
        self.tell("the template's resources are created", resources=len(stack.resources), kinds=len(kinds))
        self.watch_alerts()
        self.ingest = self.world.mapping("Ingest")
        self.reingest = self.world.mapping("Reingest")
        self.fleet = Fleet(self.world.bin, self.world.dir, GATEWAYS, self.world.seed)

    def watch_alerts(self):
        """A queue that is subscribed to the topic of alerts."""
        topic = self.world.stack.ref("AlertTopic")
        self.alerts = self.world.sqs.create_queue(QueueName="alerts-seen")["QueueUrl"]
        arn = self.world.sqs.get_queue_attributes(QueueUrl=self.alerts, AttributeNames=["QueueArn"])
        self.world.stand_in.client("sns").subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=arn["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )
        self.told = []

    def early_readings(self):
        self.feed(self.fleet.early)
        self.ingest.settle()
        self.tell("a quarter of the readings, over MQTT with and without Basic Ingest", frames=sum(self.sent.values()))

    def feed(self, lines):
        """Two gateways at the same time, until what they sent has landed."""
        gateways = self.world.gateways
        ways = {PLAIN: "", BASIC: BASIC_INGEST}

        def go(name):
            gateway = gateways[name]
            summary = gateway.run(gateway.over_mqtt(self.world.broker, ways[name]), lines[name])
            return name, summary["acked_frames"]

        with ThreadPoolExecutor(2) as pool:
            for name, frames in pool.map(go, ways):
                self.sent[name] += frames
        until("all frames have landed", lambda: self.landed() >= sum(self.sent.values()))
        self.keys_are_the_rules()

    def landed(self):
        return len(self.world.keys("bronze/sensor_readings/"))

    def keys_are_the_rules(self):
        """`land` stores under the key that the template's rule gives the topic."""
        for key in self.world.keys("bronze/sensor_readings/"):
            _, _, dt, gateway, name = key.split("/")
            levels = [gateway.removeprefix("gateway="), dt.removeprefix("dt="), name.removesuffix(".ingot")]
            topic = "ingot/bronze/" + "/".join(levels)
            assert self.world.rule.key(topic) == self.world.rule.key(BASIC_INGEST + topic) == PREFIX + key, key

    def orders_and_returns(self):
        self.world.put(files.all_files())
        self.ingest.settle()
        self.tell("files of orders and returns, under keys that events encode", files=len(files.all_files()))

    def a_right_is_missing(self):
        """The error names the action and the resource, in S3's protocol and in that of the catalog."""
        named = []
        for function, role, action, resource in [
            ("Gold", "GoldRole", "s3:PutObject", f"arn:aws:s3:::{BUCKET}/{PREFIX}gold/"),
            ("Catalog", "CatalogRole", "glue:CreateTable", "table/"),
        ]:
            with self.world.recorder.without(role, action, resource):
                words = self.world.functions[function].fails(self.world.task(function))
            assert action in words and resource in words, words
            named.append(action)
        self.tell("a missing right is named, with its resource", rights=" and ".join(named))

    def an_alert_opens(self):
        """Two functions judge at the same time, and one message goes out."""
        self.gold_at_once(2)
        opened = self.seen("discards", "out_of_range")
        assert [kind for kind, _ in opened] == ["open"], opened
        self.tell("too much is discarded: one alert opens", messages=len(self.told), **{"for": opened[0][1]["summary"]})

    def gold_at_once(self, times):
        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(lambda _: self.world.run_task("Gold"), range(times)))

    def seen(self, alert, rule):
        """Kinds and bodies of the alert's messages, in order."""
        while messages := self.world.sqs.receive_message(
            QueueUrl=self.alerts, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                self.told.append(json.loads(message["Body"]))
                self.world.sqs.delete_message(QueueUrl=self.alerts, ReceiptHandle=message["ReceiptHandle"])
        found = [told for told in self.told if told["alert"] == alert and told.get("rule") == rule]
        return [(told["kind"], told) for told in found]

    def late_readings(self):
        ingest = self.world.functions["Ingest"]
        with ThreadPoolExecutor(1) as pool:
            feeding = pool.submit(self.feed, self.fleet.late)
            until("a function is killed while it works", ingest.kill_one_at_work)
            feeding.result()
        self.ingest.settle()
        assert self.ingest.failures > 0, "nothing came again though a function was killed"
        self.tell(
            "the other readings; a function is killed while it works",
            frames=sum(self.sent.values()),
            messages=self.ingest.messages,
            deliveries=self.ingest.deliveries,
            came_again=self.ingest.failures,
            functions=len(ingest.all),
        )

    def the_rule_fails(self):
        """What a gateway sent and the rule could not write is in the error queue, once or twice, and comes to bronze."""
        gateway = self.world.gateways[UNLUCKY]
        kept = self.world.dir / UNLUCKY / "kept"
        words = [*gateway.settings(), "--lake", f"file://{kept}"]
        gateway.run(words, self.fleet.early[UNLUCKY] + self.fleet.late[UNLUCKY])
        frames = sorted((kept / "bronze").rglob("*.ingot"))
        for number, frame in enumerate(frames):
            dt = frame.parents[1].name.removeprefix("dt=")
            topic = f"ingot/bronze/{UNLUCKY}/{dt}/{frame.stem}"
            for _ in range(1 + number % 2):
                self.world.rule.fail(topic, frame.read_bytes())
        self.reingest.settle()
        for frame in frames:
            key = PREFIX + str(frame.relative_to(kept))
            stored = self.world.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            assert stored == frame.read_bytes(), key
        self.sent[UNLUCKY] = len(frames)
        self.ingest.settle()
        self.tell("what the rule could not write comes by its error queue", frames=len(frames))

    def the_backlog_goes_to_s3(self):
        """A gateway that was offline puts its backlog straight into bronze, as itself alone."""
        gateway, broker = self.world.gateways[BULK], self.world.broker
        gateway.keep(broker, self.fleet.early[BULK] + self.fleet.late[BULK])
        bulk = gateway.straight_to_s3(
            broker,
            bucket=BUCKET,
            prefix=PREFIX,
            region=self.world.endpoint["AWS_REGION"],
            alias=self.world.alias()["RoleAlias"],
            s3_port=self.world.recorder.port,
            credentials_port=self.world.provider.port,
        )
        self.sent[BULK] = gateway.run(bulk, [])["acked_frames"]
        assert self.world.provider.given_to, "nobody asked for the alias' credentials"
        assert len(self.world.keys(f"bronze/sensor_readings/")) == sum(self.sent.values())
        self.ingest.settle()
        self.tell("a backlog goes straight to S3, with the gateway's own rights", frames=self.sent[BULK])

    def the_alert_resolves(self):
        self.gold_at_once(2)
        kinds = [kind for kind, _ in self.seen("discards", "out_of_range")]
        assert kinds == ["open", "resolve"], kinds
        ids = [told["id"] for told in self.told]
        assert len(ids) == len(set(ids)), f"told twice: {ids}"
        self.tell("the share of bad readings falls: the alert resolves, once", messages=len(self.told))

    def a_lost_event(self):
        """S3 forgets to tell of an object. The audit finds it and sends its event again."""
        self.world.without_events(lambda: self.world.put(files.lost_file()))
        self.ingest.settle()
        before = self.ingest.messages
        answer = self.world.run_task("Audit", ahead_s=AN_HOUR_AND_MORE)
        self.ingest.settle()
        assert self.ingest.messages == before + 1, "one event was lost"
        self.tell("a lost event is found and sent again", requeued=answer.get("requeued"))

    def poison(self):
        """A message that no function can take is in the dead letters, and alone."""
        record = self.world.created("bronze/orders/not there.ndjson")
        queue, letters = self.world.stack.ref("BronzeQueue"), self.world.stack.ref("BronzeDeadLetters")
        self.world.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))
        errors, error_letters = self.world.stack.ref("RuleErrorQueue"), self.world.stack.ref("RuleErrorDeadLetters")
        self.world.sqs.send_message(QueueUrl=errors, MessageBody='{"neither": "this nor that"}')
        for dead in (letters, error_letters):
            until("the poison is in the dead letters", lambda: waiting(self.world.sqs, dead) == 1)
        self.ingest.settle()
        self.reingest.settle()
        assert waiting(self.world.sqs, letters) == waiting(self.world.sqs, error_letters) == 1
        self.tell("poison ends in the dead letters, the rest goes on", dead_letters=2)

    def the_catalog(self):
        self.gold_at_once(1)
        answer = self.world.run_task("Catalog")
        assert not answer.get("failed"), answer
        glue = self.world.stand_in.client("glue")
        tables = {
            table["Name"]: table["StorageDescriptor"]["Columns"]
            for table in glue.get_tables(DatabaseName=self.world.stack.ref("Database"))["TableList"]
        }
        for wanted in ("silver_sensor_readings", "silver_orders", "gold_sensor_hourly", "discard", "ledger"):
            assert tables.get(wanted), f"Glue has no columns of {wanted}: {sorted(tables)}"
        names = [column["Name"] for column in tables["silver_sensor_readings"]]
        assert {"device", "boot", "seq", "channel", "at", "value"} <= set(names), names
        queries = self.world.stand_in.client("athena").list_query_executions(
            WorkGroup=self.world.stack.ref("Workgroup")
        )["QueryExecutionIds"]
        assert queries, "no view was made"
        # Views are made again: the stand-in's Athena runs no statement, so Glue has none of them.
        again = self.world.run_task("Catalog")["tables"]
        assert all(table["done"] == "unchanged" for table in again), again
        self.tell("the catalog knows the tables", tables=len(tables), views=len(queries))

    def the_books(self):
        world = self.world
        measured = {told.get("dataset") for told in world.functions["Ingest"].metrics()}
        assert measured == {"sensor_readings", "orders", "returns"}, measured
        assert any("ObjectsRequeued" in told for told in world.functions["Audit"].metrics())
        code, balance = judge.audit(world)
        assert code == 0, balance["findings"]
        copy = judge.copied(world, "copy")
        code, found, error = judge.verify(world, self.fleet.truth, copy.lake)
        assert code == 0 and found["wrong"] == 0 and found["elsewhere"] == 0, (found, error)
        self.tell(
            "audit and ground truth agree",
            produced=found["produced"],
            silver=found["silver"],
            discarded=found["discarded"],
            lost=found["elsewhere"],
            twice=found["wrong"],
        )
        discarded = Counter(
            dict(row)["rule"] for row in copy.table("discard").elements() if dict(row)["dataset"] == "orders"
        )
        assert discarded == files.discards(), discarded
        wrong, compared = judge.differences(copy, judge.quiet(world, copy))
        assert not wrong, wrong
        self.tell("the same bronze in one quiet run gives the same rows", rows=sum(compared.values()), tables=len(compared))
