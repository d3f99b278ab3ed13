"""Mosquitto in AWS IoT Core's place.

Gateways come with client certificates; the name in the certificate is the thing's, and the ACL lets it publish under
that name alone, with and without Basic Ingest. `land`, which plays the topic rule, comes by a plain listener on
loopback.
"""

import getpass
import socket

from parts import Part, until
from shared.broker import free_port, make_certificates, mosquitto

SETTINGS = """
per_listener_settings true
user {user}
persistence false
listener {tls_port} 127.0.0.1
cafile {dir}/ca.pem
certfile {dir}/server.pem
keyfile {dir}/server.key
require_certificate true
use_identity_as_username true
acl_file {dir}/acl
listener {plain_port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 100
message_size_limit 131072
max_keepalive 1200
"""

ACL = """
pattern write ingot/bronze/%u/#
pattern write $aws/rules/ingot_bronze/ingot/bronze/%u/#
"""


class Broker:
    """`gateways` are the things that have a certificate."""

    def __init__(self, dir, logs, gateways):
        self.dir = dir / "broker"
        self.dir.mkdir()
        make_certificates(self.dir, {name: name for name in gateways})
        self.tls_port, self.plain_port = free_port(), free_port()
        (self.dir / "acl").write_text(ACL)
        ports = {"tls_port": self.tls_port, "plain_port": self.plain_port}
        (self.dir / "conf").write_text(SETTINGS.format(user=getpass.getuser(), dir=self.dir, **ports))
        self.part = Part("mosquitto", logs, mosquitto(), "-c", self.dir / "conf")
        until("Mosquitto accepts", self.accepts)

    def accepts(self):
        if self.part.process.poll() is not None:
            raise AssertionError(f"Mosquitto ended: {self.part.tail()}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.plain_port)) == 0

    def stop(self):
        self.part.stop()
