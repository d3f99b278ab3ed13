"""Mosquitto in AWS IoT Core's place.

Gateways come with client certificates; the name in the certificate is the thing's, and the ACL lets it publish under
that name alone, with and without Basic Ingest. `land`, which plays the topic rule, comes by a plain listener on
loopback.
"""

import socket

from parts import Part, until
from shared.broker import free_port, make_certificates, mosquitto, settings

MORE = """
persistence false
max_keepalive 1200
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
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
        (self.dir / "conf").write_text(settings(self.dir, self.tls_port, self.plain_port) + MORE)
        self.part = Part("mosquitto", logs, mosquitto(), "-c", self.dir / "conf")
        until("Mosquitto accepts", self.accepts)

    def accepts(self):
        if self.part.process.poll() is not None:
            raise AssertionError(f"Mosquitto ended: {self.part.tail()}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.plain_port)) == 0

    def filters(self, client):
        """What the client has subscribed to, as the log says: `<time>: <client> <QoS> <filter>`."""
        words = (line.split(maxsplit=3) for line in self.part.log.read_text(errors="replace").splitlines())
        return {line[3] for line in words if len(line) == 4 and line[1] == client and line[2].isdigit()}

    def stop(self):
        self.part.stop()
