"""AWS IoT's credentials provider: a gateway shows its certificate and gets the keys of the role behind the alias."""

import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CredentialsProvider:
    """`role_of(thing)` gives the credentials of the role as that thing has it: policies may hold the thing's name."""

    def __init__(self, pki, alias, role_of):
        self.given_to = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self, alias, role_of))
        self.server.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pki / "server.pem", pki / "server.key")
        tls.load_verify_locations(pki / "ca.pem")
        tls.verify_mode = ssl.CERT_REQUIRED
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def handler(provider, alias, role_of):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            subject = dict(pair[0] for pair in self.connection.getpeercert()["subject"])
            thing = self.headers.get("x-amzn-iot-thingname")
            asked = re.fullmatch(r"/role-aliases/([^/]+)/credentials", self.path)
            if not asked or asked[1] != alias or subject["commonName"] != thing:
                return self.answer(403, {"message": "Access Denied"})
            provider.given_to.append(thing)
            keys = role_of(thing)
            self.answer(
                200,
                {
                    "credentials": {
                        "accessKeyId": keys["AWS_ACCESS_KEY_ID"],
                        "secretAccessKey": keys["AWS_SECRET_ACCESS_KEY"],
                        "sessionToken": keys["AWS_SESSION_TOKEN"],
                        "expiration": "2099-01-01T00:00:00Z",
                    }
                },
            )

        def answer(self, status, body):
            body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler
