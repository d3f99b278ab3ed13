"""An event source mapping: from a queue to a function, as Lambda does it, at its worst.

The poller has the function's rights. Every message is handed over twice, in batches that are cut differently, to
environments that run at the same time: SQS promises "at least once" and no order. What both deliveries took is
deleted; the rest comes again until the queue gives it up to its dead letters. The visibility timeout is
not waited for: the account's owner ends it.
"""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from asks import REGION
from environment import InvocationError
from parts import until
from stand_in import client

GATHER_MAX = 100


class Mapping:
    def __init__(self, stand_in, recorder, function, queue_url, settings, seed):
        self.owner, self.function, self.queue_url = stand_in.client("sqs"), function, queue_url
        self.sqs = client("sqs", recorder.port, function.credentials)
        self.arn = settings["EventSourceArn"]
        self.batch_size = int(settings["BatchSize"])
        function.let_run(int(settings["ScalingConfig"]["MaximumConcurrency"]))
        self.partial = "ReportBatchItemFailures" in settings.get("FunctionResponseTypes", [])
        self.random = random.Random(seed)
        self.messages = self.deliveries = self.batches = self.failures = 0
        self.error = None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])
            while not self.ending.is_set():
                if taken := self.gather():
                    self.deliver(taken)
                else:
                    self.ending.wait(0.2)
        except Exception as error:
            self.error = error

    def gather(self):
        taken = []
        while len(taken) < GATHER_MAX:
            answer = self.sqs.receive_message(
                QueueUrl=self.queue_url, MaxNumberOfMessages=10, AttributeNames=["All"]
            )
            if not (messages := answer.get("Messages", [])):
                break
            taken += messages
        return taken

    def deliver(self, messages):
        again = self.random.sample(messages, len(messages))
        batches = cut(messages, self.batch_size) + cut(again, self.batch_size)
        with ThreadPoolExecutor(len(batches)) as pool:
            failed = set().union(*pool.map(self.hand_over, batches))
        self.messages += len(messages)
        self.deliveries += sum(map(len, batches))
        self.batches += len(batches)
        self.failures += len(failed)
        for ten in cut([message for message in messages if message["MessageId"] not in failed], 10):
            entries = [
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(ten)
            ]
            self.sqs.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)
        for message in messages:
            if message["MessageId"] in failed:
                self.owner.change_message_visibility(
                    QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )

    def hand_over(self, messages):
        """The ids of the messages that failed."""
        everything = {message["MessageId"] for message in messages}
        try:
            answer = self.function.invoke({"Records": [self.record(message) for message in messages]})
        except InvocationError:
            return everything
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        if not self.partial or not failed <= everything:
            raise AssertionError(f"{self.function.name} reports {failed}, of {everything}")
        return failed

    def record(self, message):
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn,
            "awsRegion": REGION,
        }

    def settle(self):
        """Until the queue is empty: all is processed, or given up to the dead letters."""
        until(f"{self.queue_url} is empty", self.is_empty)

    def is_empty(self):
        if self.error:
            raise self.error
        return waiting(self.owner, self.queue_url) == 0

    def stop(self):
        self.ending.set()
        self.thread.join(60)


def cut(messages, size):
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def waiting(sqs, queue_url):
    """Messages in the queue, those in flight too."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)
