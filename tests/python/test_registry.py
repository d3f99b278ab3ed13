"""Each request of `provision create` is signed as AWS's own tools would sign it.

The registry here answers what a registry would, with an older certificate on the thing, so that all calls are made; botocore
computes what each signature must be.
"""

import datetime
import json
import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ARN = "arn:aws:iot:eu-west-1:123456789012:"
ID, SECRET, TOKEN = "AKIDTEST", "canary-secret", "canary-token+/="


def certificate(request: str) -> str:
    """What an authority makes of a certificate request."""
    asked, now = x509.load_pem_x509_csr(request.encode()), datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(asked.subject).issuer_name(x509.Name([])).serial_number(1)
    made = made.public_key(asked.public_key()).not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


class Registry(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        method, path = self.command, unquote(self.path)
        self.server.seen.append((method, path, self.claimed(), self.due(body)))
        said = {}
        match method, path.partition("?")[0].split("/")[1:]:
            case "POST", ["things", name]:
                said = {"thingArn": f"{ARN}thing/{name}"}
            case "GET", ["things", _, "principals"]:
                said = {"principals": [f"{ARN}cert/old"]}
            case "GET", ["certificates"]:
                said = {"certificates": [], "nextMarker": "" if "marker=" in path else "m+/="}
            case "POST", ["certificates"]:
                request = json.loads(body)["certificateSigningRequest"]
                said = {"certificateId": "new", "certificatePem": certificate(request)}
            case "GET", ["certificates", id]:
                said = {"certificateDescription": {"certificateArn": f"{ARN}cert/{id}", "status": "ACTIVE"}}
            case "POST", ["attached-policies", *_]:
                said = {"policies": [{"policyName": "fleet=1"}]}
            case "GET", ["endpoint"]:
                said = {"endpointAddress": "a-ats.iot.eu-west-1.amazonaws.com"}
        said = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def claimed(self) -> str:
        return self.headers["authorization"].partition("Signature=")[2]

    def due(self, body: bytes) -> str:
        names = self.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        url = f"http://127.0.0.1:{self.server.server_port}{self.path}"
        request = AWSRequest(self.command, url, {name: self.headers[name] for name in names}, body)
        request.context["timestamp"] = self.headers["x-amz-date"]
        signer = SigV4Auth(Credentials(ID, SECRET, TOKEN), "iot", "eu-west-1")
        canonical = signer.canonical_request(request)
        return signer.signature(signer.string_to_sign(request, canonical), request)

    def log_message(self, *_):
        pass

    do_GET = do_POST = do_PUT = do_DELETE = answer


@pytest.fixture
def registry():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.seen = []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_every_call_is_signed_as_botocore_would(registry, bin, tmp_path):
    words = ["provision", "create", "--name", "gw-1", "--dir", tmp_path, "--no-check", "--replace"]
    endpoint = f"http://127.0.0.1:{registry.server_port}/"
    env = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-1", "PATH": os.environ["PATH"]}
    env |= {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    ran = subprocess.run([bin / "ingot-gateway", *words], env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert [(method, path) for method, path, claimed, due in registry.seen if claimed != due] == []
    made = {(method, path.partition("?")[0].split("/")[1]) for method, path, _, _ in registry.seen}
    assert len(registry.seen) == 17 and ("POST", "attached-policies") in made and ("DELETE", "certificates") in made
