"""A proxy in front of the stand-in that knows every role by its access key: it records what each role did, and
denies what its policies do not grant, in the words of the service.

Each identity has one made-up access key. A request whose key nobody has is refused too: nothing reaches the
stand-in unnamed. The harness itself, as the account's owner, goes to the stand-in directly.
"""

import json
import re
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from asks import ACCOUNT, Ask, Request, Unknown, asks_of

SCOPE = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/aws4_request")


class Recorder:
    def __init__(self, stand_in):
        self.stand_in_port = stand_in.port
        self.athena = stand_in.client("athena")
        self.roles = {}  # by access key
        self.arns = {}  # by role
        self.grants = defaultdict(list)  # by role
        self.denials = []  # of the bucket's policy
        self.used = set()  # grants
        self.denied = set()  # role and ask
        self.unknown = set()
        self.requests = defaultdict(int)  # by role and action
        self.lock = threading.Lock()
        self.one_put = threading.Lock()
        self.server = Server(("127.0.0.1", 0), handler(self))
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def add_role(self, name, arn, grants):
        """Returns the role's credentials, as variables of the environment."""
        key = f"AKIA{len(self.roles):012d}TEST"
        self.roles[key] = name
        self.arns[name], self.grants[name] = arn, list(grants)
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": f"canary-secret-of-{name}",
            "AWS_SESSION_TOKEN": f"canary-token-of-{name}",
        }

    def allows(self, role, asks):
        """Records the asks. The first that is not granted, or None."""
        with self.lock:
            for ask in asks:
                # The way here stands for TLS.
                ask.context.update({"aws:principalarn": self.arns[role], "aws:securetransport": "true"})
                covering = [grant for grant in self.grants[role] if grant.covers(ask)]
                if not covering or any(denial.covers(ask) for denial in self.denials):
                    self.denied.add((role, ask))
                    return ask
                self.used.update(covering)

    def count(self, role, asks):
        with self.lock:
            for ask in asks:
                self.requests[role, ask.action] += 1

    def may_list(self, role, bucket):
        """S3 tells only those that a key is missing who may list the bucket; to others it is forbidden."""
        return self.allows(role, [Ask("s3:ListBucket", f"arn:aws:s3:::{bucket}")]) is None

    @contextmanager
    def without(self, role, action, resource):
        """The role lacks the action on such resources meanwhile; the denials that follow are wanted."""
        granted, denied = self.grants[role], set(self.denied)
        self.grants[role] = [
            grant for grant in granted if grant.action != action or resource not in grant.resource
        ]
        assert len(self.grants[role]) < len(granted), f"{role} has no {action} on {resource}"
        try:
            yield
        finally:
            self.grants[role], self.denied = granted, denied

    def workgroup_of(self, query):
        return self.athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["WorkGroup"]

    def play(self, role, action, resource):
        """What AWS does by itself with a role of ours, such as calling a function on schedule."""
        asks = [Ask(action, resource)]
        self.count(role, asks)
        if refused := self.allows(role, asks):
            raise AssertionError(f"{role} may not {refused.action} on {refused.resource}")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A program that was killed leaves its connections; nothing else may go wrong."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def handler(recorder):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_expect_100(self):
            super().handle_expect_100()
            self.wfile.flush()
            return True

        def pass_on(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            key, service = scope(headers)
            role = recorder.roles.get(key)
            try:
                asks = asks_of(Request(service, self.command, self.path, headers, body), recorder.workgroup_of)
            except (Unknown, KeyError, ValueError) as error:
                recorder.unknown.add(f"{role}: {error!r}")
                asks = [Ask("unknown:Unknown", str(error))]
            recorder.count(role, asks)
            refused = recorder.allows(role, asks) if role else asks[0]
            if refused:
                return self.answer(*denial(service, role, refused))
            # S3 looks and puts in one step; moto does not.
            with recorder.one_put if "if-none-match" in headers else nullcontext():
                status, answer_headers, answer = self.forward(headers, body)
            if status == 404 and asks[0].action == "s3:GetObject":
                bucket = self.path.lstrip("/").partition("/")[0]
                if not recorder.may_list(role, bucket):
                    return self.answer(*denial(service, role, asks[0]))
            self.answer(status, answer_headers, answer)

        def forward(self, headers, body):
            stand_in = HTTPConnection("127.0.0.1", recorder.stand_in_port, timeout=60)
            headers["connection"] = "close"
            stand_in.request(self.command, self.path, body, headers)
            answer = stand_in.getresponse()
            found = answer.status, dict(answer.getheaders()), answer.read()
            stand_in.close()
            return found

        def answer(self, status, headers, body):
            self.send_response_only(status)
            length = headers.pop("Content-Length", str(len(body)))
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            # Of HEAD it is the object's length.
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        def log_message(self, *_):
            pass

    return Handler


def scope(headers):
    """Access key and service of a signed request."""
    found = SCOPE.search(headers.get("authorization", ""))
    return found.groups() if found else ("", "")


def denial(service, role, ask):
    """Status, headers and body with which the service refuses."""
    words = (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{role}/test is not authorized to perform: {ask.action} "
        f'on resource: "{ask.resource}" because no identity-based policy allows the {ask.action} action'
    )
    if service == "s3":
        body = f"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>{words}</Message></Error>"
        return 403, {"Content-Type": "application/xml"}, body.encode()
    if service == "sns":
        body = f"<ErrorResponse><Error><Code>AuthorizationError</Code><Message>{words}</Message></Error></ErrorResponse>"
        return 403, {"Content-Type": "text/xml"}, body.encode()
    code = "AccessDenied" if service == "sqs" else "AccessDeniedException"
    body = json.dumps({"__type": code, "message": words})
    return 403 if service == "sqs" else 400, {"Content-Type": "application/x-amz-json-1.1"}, body.encode()
