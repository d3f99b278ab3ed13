"""The second act: people and time. Somebody is forgotten, objects are set aside and expire, the upkeep's day comes."""

import judge
from files import FORGOTTEN, returns

DAY_S = 24 * 60 * 60


class Later:
    def __init__(self, world, road, tell):
        self.world, self.road, self.tell = world, road, tell
        self.operator = world.credentials["OperatorRole"] | world.endpoint

    def run(self):
        for step in [self.somebody_is_forgotten, self.upkeep, self.the_books_again]:
            step()

    def somebody_is_forgotten(self):
        """By an operator, with the operator's rights; when the person comes again, the rows are discarded."""
        world = self.world
        words = ["forget", "--lake", world.lake, "--subject", "-", "--alone", "--format", "json"]
        words += judge.contract_words(world)
        secret = ["--pseudonym-key-secret", world.stack.ref("PseudonymKey")]
        done = judge.processor(
            world, *words, *secret, env=self.operator, input=f"customer_email={FORGOTTEN}"
        )
        assert done.returncode == 0, done.stderr
        world.put({"bronze/returns/dt=2026-11-02/again.ndjson": returns(9, "2026-11-02", 6)})
        self.road.ingest.settle()
        self.tell("a person is forgotten, and stays so")

    def upkeep(self):
        """In ten days: compaction, checkpoints, old logs, what no table shows any more, what expired."""
        answer = self.world.run_task("Maintain", ahead_s=10 * DAY_S)
        assert not answer.get("failed"), answer
        self.tell("the upkeep of ten days later", steps=len(answer["done"]), freed_bytes=answer["freed_bytes"])

    def the_books_again(self):
        code, balance = judge.audit(self.world)
        assert code == 0, balance["findings"]
        self.tell("the books still balance", objects=balance["objects"], rows=balance["rows_in"])
