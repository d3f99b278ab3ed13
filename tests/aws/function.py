"""A Lambda function: as many execution environments as are needed at once, and no more than it may have."""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from environment import Environment, InvocationError


@dataclass
class Settings:
    """What the stack says of the function."""

    name: str
    arn: str
    role: str
    timeout_s: int
    memory_mb: int
    log_group: str
    variables: dict
    task_root: Path
    logs: Path


class Function:
    """`credentials` are the role's; `endpoint` is where its calls to AWS go."""

    def __init__(self, settings, credentials, endpoint, concurrency=2):
        self.__dict__ |= vars(settings)
        self.credentials = credentials
        self.variables = settings.variables | credentials | endpoint
        self.free, self.all = [], []
        self.let_run(concurrency)
        self.lock = threading.Lock()

    def let_run(self, concurrency):
        """Invocations at the same time, before the first."""
        self.slots = threading.Semaphore(concurrency)

    def invoke(self, event, ahead_s=0):
        """The answer; an `InvocationError` where there is none."""
        with self.slots:
            environment = self.take(ahead_s)
            try:
                return environment.invoke(event)
            finally:
                with self.lock:
                    self.free.append(environment)

    def take(self, ahead_s):
        with self.lock:
            self.free = [free for free in self.free if free.is_alive()]
            fitting = [free for free in self.free if free.ahead_s == ahead_s]
            if fitting:
                self.free.remove(fitting[0])
                return fitting[0]
            return self.fresh(ahead_s)

    def fresh(self, ahead_s=0):
        """An environment that nothing was done in yet."""
        self.all.append(Environment(self, len(self.all) + 1, ahead_s))
        return self.all[-1]

    def kill_one_at_work(self):
        """Whether there was one."""
        with self.lock:
            at_work = [busy for busy in self.all if busy not in self.free and busy.is_alive()]
            if at_work:
                at_work[0].part.kill()
            return bool(at_work)

    def fails(self, event):
        """The words with which it fails."""
        try:
            answer = self.invoke(event)
        except InvocationError as error:
            return str(error)
        raise AssertionError(f"{self.name} should have failed, and answered {answer}")

    def metrics(self):
        """What it told CloudWatch by lines of its log, in the Embedded Metric Format."""
        lines = [line for environment in self.all for line in environment.part.out.read_text().splitlines()]
        return [told for told in map(json.loads, lines) if told["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Ingot"]

    def ship_logs(self, logs):
        """What Lambda does with the role's rights: each environment's lines go to CloudWatch Logs."""
        for environment in self.all:
            lines = environment.part.out.read_text() + environment.part.log.read_text()
            stream = {"logGroupName": self.log_group, "logStreamName": environment.part.name}
            logs.create_log_stream(**stream)
            now_ms = int(time.time() * 1000)
            events = [{"timestamp": now_ms, "message": line} for line in lines.splitlines() if line.strip()]
            logs.put_log_events(**stream, logEvents=events[:1000] or [{"timestamp": now_ms, "message": "END"}])

    def stop(self):
        for environment in self.all:
            environment.stop()
