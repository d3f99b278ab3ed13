"""The second act: time. Old objects expire, the upkeep's day comes, and the road goes on.

Functions run with their clock set ahead, so nobody waits.
"""

import json
import time
from collections import Counter

import judge
from environment import clock_ahead
from files import CANARY, returns
from stand_in import client
from world import BUCKET, PREFIX

DAY_S = 24 * 60 * 60
# Kinds that S3 has a price for, and the right that each needs.
REQUESTS = {"put": "PutObject", "list": "ListBucket", "get_and_head": "GetObject"}


class Later:
    def __init__(self, world, road, tell):
        self.world, self.road, self.tell = world, road, tell

    def run(self):
        for step in [
            self.a_person_is_forgotten,
            self.upkeep,
            self.the_road_goes_on,
            self.what_an_invocation_takes,
            self.an_operator,
            self.the_books_again,
        ]:
            step()

    def a_person_is_forgotten(self):
        """An operator erases somebody. The rewritten objects' events come, and nothing is counted twice."""
        world = self.world
        who = f"tom1@{CANARY}.example"
        rights = world.credentials["OperatorRole"] | world.endpoint
        words = ["--lake", world.lake, "--format", "json", *judge.contract_words(world), "--alone", "--subject", "-"]
        secret = ["--pseudonym-key-secret", world.stack.ref("PseudonymKey")]
        assert judge.mentions(world, "bronze/returns/", who), f"nobody sent {who}"
        before = self.road.ingest.messages
        done = judge.processor(world, "forget", *words, *secret, env=rights, input=f"customer_email={who}")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        rewritten = report["datasets"]["returns"]["bronze_objects"]
        assert report["receipt"] in world.keys("receipts/"), report
        assert not judge.mentions(world, "", who)
        removed = self.old_versions_go()
        assert removed > rewritten and not judge.mentions(world, "", who, versions=True)
        self.road.ingest.settle()
        assert self.road.ingest.messages >= before + rewritten > before, "no events of the rewritten objects"
        found = world.run_task("Audit")
        assert found["findings"] == [], found
        self.tell("a person is forgotten", objects=rewritten, rows=report["datasets"]["returns"]["bronze_rows"])

    def old_versions_go(self):
        """At once, and not after `NoncurrentDays`."""
        s3 = client("s3", self.world.recorder.port, self.world.credentials["OperatorRole"])
        old = [
            {"Key": found["Key"], "VersionId": found["VersionId"]}
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=PREFIX)
            for found in page.get("Versions", [])
            if not found["IsLatest"]
        ]
        for first in range(0, len(old), 1_000):
            s3.delete_objects(Bucket=BUCKET, Delete={"Objects": old[first : first + 1_000], "Quiet": True})
        return len(old)

    def upkeep(self):
        """In ten days: compaction, checkpoints, old logs, what no table shows any more, what expired."""
        answer = self.world.run_task("Maintain", ahead_s=10 * DAY_S)
        assert not answer.get("failed"), answer
        steps = sorted({done["step"] for done in answer["done"]})
        self.tell("the upkeep of ten days later", did=" ".join(steps), freed_bytes=answer["freed_bytes"])
        expired = "bronze/returns/dt=2026-01-01/long ago.ndjson"
        assert expired not in self.world.keys("bronze/returns/"), expired

    def the_road_goes_on(self):
        self.world.put({"bronze/returns/dt=2026-11-02/again.ndjson": returns(9, "2026-11-02", 6)})
        self.road.ingest.settle()
        self.world.run_task("Gold", ahead_s=2 * DAY_S)  # alerts of yesterday are over
        self.tell("the road goes on over compacted tables")

    def what_an_invocation_takes(self):
        """A fresh function is given one small object after another, into a lake that is there. docs/cost.md and
        docs/benchmarks.md have its numbers."""
        world, times = self.world, 20
        ingest, before = world.functions["Ingest"], Counter(world.recorder.requests)
        environment, took_s = ingest.fresh(), 0
        for number in range(times):
            key = f"bronze/returns/dt=2026-11-03/{number}.ndjson"
            world.without_events(lambda: world.put({key: returns(10 + number, "2026-11-03", 6)}))
            (found,) = (found for found in world.objects(key) if found["Key"] == PREFIX + key)
            record = world.created(key, found["Size"], found["ETag"].strip('"'))
            message = {"messageId": "1", "eventSource": "aws:sqs", "body": json.dumps({"Records": [record]})}
            begin = time.monotonic()
            answer = environment.invoke({"Records": [message]})
            took_s += time.monotonic() - begin
            assert answer == {"batchItemFailures": []}, answer
        took = {"init_ms": environment.init_ms, "each_ms": round(took_s * 1_000 / times), "memory_mb": environment.memory_mb()}
        asked = self.asked(ingest, before, times)
        assert all(asked.values()), asked
        least_mb = world.stack.template["Parameters"]["MemoryMb"]["MinValue"]
        assert took["memory_mb"] < int(least_mb), f"{took} does not fit the smallest function, {least_mb} MB"
        self.tell("an invocation with one small object", **took, **asked)
        world.run_task("Gold", ahead_s=2 * DAY_S)
        before = Counter(world.recorder.requests)
        world.run_task("Gold", ahead_s=2 * DAY_S)
        self.tell("gold with nothing new", **self.asked(world.functions["Gold"], before, 1))

    def asked(self, function, before, times):
        """What the function asked of S3 since then: the mean of so many times."""
        asked = Counter(self.world.recorder.requests) - before
        return {kind: asked[function.role, f"s3:{action}"] / times for kind, action in REQUESTS.items()}

    def an_operator(self):
        """The same program by hand, with a person's rights: a rule is changed and redriven, upkeep done."""
        world = self.world
        contract = world.dir / "returns.yaml"
        text = (world.task_root / "contracts" / "returns.yaml").read_text()
        contract.write_text(text.replace("parcels > 100", "parcels > 1000"))
        lake = ["--lake", world.lake, "--format", "json", "--contract", contract]
        rights = world.credentials["OperatorRole"] | world.endpoint
        secret = ["--pseudonym-key-secret", world.stack.ref("PseudonymKey")]
        redriven = judge.processor(world, "redrive", *lake, "--rule", "parcels_range", *secret, env=rights)
        assert redriven.returncode == 0, redriven.stderr
        later = clock_ahead(20 * DAY_S)
        kept = judge.processor(world, "maintain", *lake, env=rights | later)
        assert kept.returncode == 0, kept.stderr
        self.tell("an operator redrives a changed rule", answer=redriven.stdout.strip()[:200])

    def the_books_again(self):
        code, balance = judge.audit(self.world)
        assert code == 0, balance["findings"]
        self.tell("the books still balance", objects=balance["objects"], expired=balance["expired_objects"])
