"""One execution environment of a Lambda function: the Runtime API on a loopback port, and the real binary that asks it
for work.

The API is AWS's: `GET …/invocation/next` waits for an event, `POST …/{id}/response` or `…/{id}/error` answers it.
Like Lambda, it hands out one event at a time, and kills a program that does not answer in time. `ahead_s` sets the
program's clock ahead (libfaketime), which is how a test waits for a week.
"""

import json
import queue
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from parts import Part

VERSION = "/2018-06-01/runtime/"
START_S = 30


class InvocationError(Exception):
    """The function answered with an error, ended, or did not answer."""


class Environment:
    def __init__(self, function, number, ahead_s=0):
        self.function, self.ahead_s = function, ahead_s
        self.asked = queue.Queue()  # (id, event)
        self.answers = queue.Queue()  # (kind, body)
        self.invocations = 0
        self.begin, self.init_ms = time.monotonic(), None
        self.api = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.api.daemon_threads = True
        threading.Thread(target=self.api.serve_forever, daemon=True).start()
        variables = function.variables | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": f"{function.name}-{number}",
            "LAMBDA_TASK_ROOT": str(function.task_root),
            "_HANDLER": "bootstrap",
            "TZ": ":UTC",
        }
        if ahead_s:
            variables |= clock_ahead(ahead_s)
        self.part = Part(
            f"{function.name}-{number}", function.logs, function.task_root / "bootstrap", env=variables
        )

    def invoke(self, event):
        self.invocations += 1
        self.asked.put((str(uuid.uuid4()), event))
        end = time.monotonic() + self.function.timeout_s
        while time.monotonic() < end:
            try:
                kind, body = self.answers.get(timeout=0.2)
            except queue.Empty:
                if self.part.process.poll() is not None:
                    raise InvocationError(f"ended with {self.part.process.returncode}: {self.part.tail()}")
                continue
            answer = json.loads(body or b"null")
            if kind == "response":
                return answer
            raise InvocationError(answer.get("errorMessage", str(answer)))
        self.part.kill()
        raise InvocationError(f"no answer in {self.function.timeout_s} s")

    def is_ready(self):
        """The program asks for work: the first time, its initialisation is over."""
        if self.init_ms is None:
            self.init_ms = round((time.monotonic() - self.begin) * 1_000)

    def memory_mb(self):
        """The most that the program had in memory."""
        status = Path(f"/proc/{self.part.process.pid}/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1_024)

    def is_alive(self):
        return self.part.process.poll() is None

    def stop(self):
        self.asked.put(None)
        self.part.stop()
        self.api.shutdown()
        self.api.server_close()


def clock_ahead(seconds):
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        raise FileNotFoundError("libfaketime is missing: apt-get install faketime")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": f"+{seconds}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def handler(environment):
    function = environment.function

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            if self.path != VERSION + "invocation/next":
                return self.answer(404, b"{}")
            environment.is_ready()
            if not (asked := environment.asked.get()):
                self.close_connection = True
                return None  # it is ending
            id, event = asked
            deadline_ms = int((time.time() + environment.ahead_s + function.timeout_s) * 1000)
            headers = {
                "Lambda-Runtime-Aws-Request-Id": id,
                "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": function.arn,
                "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
            }
            self.answer(200, json.dumps(event).encode(), headers)

        def do_POST(self):
            kind = self.path.rpartition("/")[2]  # response or error; init/error ends here, too
            environment.answers.put((kind, self.body()))
            self.answer(202, b'{"status":"OK"}')

        def body(self):
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def answer(self, status, body, headers=None):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler
