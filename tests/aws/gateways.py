"""The real gateway, four times, each on another way into bronze."""

import json
import subprocess

from parts import PATIENCE_S, Part
from shared.broker import free_port

SETTINGS = """
name = "{name}"
drain_ms_max = {drain_ms_max}
[batch]
age_ms_max = 250
frame_bytes_max = 600
[spool]
dir = "{dir}/spool"
[health]
listen = "off"
[uplink]
backoff_base_ms = 50
backoff_cap_ms = 500
"""

MQTT = """
[uplink.mqtt]
host = "127.0.0.1"
port = {port}
topic_prefix = "{prefix}"
[uplink.mqtt.tls]
ca = "{pki}/ca.pem"
cert = "{pki}/{name}.pem"
key = "{pki}/{name}.key"
"""

BULK = """
[uplink.bulk]
above_bytes = 0
bucket = "{bucket}"
prefix = "{prefix}"
region = "{region}"
role_alias = "{alias}"
endpoint = "http://127.0.0.1:{s3_port}"
credentials_endpoint = "localhost:{credentials_port}"
"""


class Gateway:
    def __init__(self, bin, dir, logs, name):
        self.program, self.logs, self.name = bin / "ingot-gateway", logs, name
        self.dir = dir / name
        self.dir.mkdir()
        self.runs = 0

    def settings(self, uplink="", drain_ms_max=60_000):
        file = self.dir / "gateway.toml"
        settings = SETTINGS.format(name=self.name, dir=self.dir, drain_ms_max=drain_ms_max)
        file.write_text(settings + uplink)
        return ["--config", file]

    def over_mqtt(self, broker, prefix=""):
        return self.settings(self.mqtt(broker, prefix))

    def mqtt(self, broker, prefix=""):
        return MQTT.format(name=self.name, port=broker.tls_port, pki=broker.dir, prefix=prefix)

    def straight_to_s3(self, broker, **bulk):
        return self.settings(self.mqtt(broker) + BULK.format(**bulk))

    def keep(self, broker, lines):
        """Takes the lines while the broker cannot be reached: they stay in the spool."""
        unreachable = MQTT.format(name=self.name, port=free_port(), pki=broker.dir, prefix="")
        summary = self.run(self.settings(unreachable, drain_ms_max=50), lines, code=1)
        if summary["in_spool_frames"] == 0:
            raise AssertionError(f"nothing is in the spool: {summary}")

    def run(self, settings, lines, code=0):
        """Feeds the lines, waits for the end. The summary."""
        self.runs += 1
        command = [self.program, "run", "--format", "json", *settings]
        part = Part(f"{self.name}-{self.runs}", self.logs, *command, stdin=subprocess.PIPE)
        try:
            part.process.stdin.writelines(lines)
            part.process.stdin.close()
            part.wait(PATIENCE_S, code)
        finally:
            part.stop()
        return json.loads(part.out.read_text().splitlines()[-1])
