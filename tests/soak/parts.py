"""The programs of the soak, each in its own process: started, killed with kill -9, started again."""

import asyncio
import contextlib
import subprocess

from feeder import AGE_MS
from shared.broker import free_port, make_certificates, settings

PERSISTENCE = """
persistence true
persistence_location {dir}/broker/
autosave_on_changes true
autosave_interval 1
"""

GATEWAY = """
name = "soak"
drain_ms_max = 120000
[batch]
age_ms_max = {age_ms}
[spool]
dir = "{dir}/spool"
segment_bytes_max = 16384
bytes_max = 1073741824
[uplink]
backoff_base_ms = 50
backoff_cap_ms = 1000
[uplink.mqtt]
host = "127.0.0.1"
port = {port}
keep_alive_s = 5
connect_ms_max = 2000
[uplink.mqtt.tls]
ca = "{dir}/ca.pem"
cert = "{dir}/gateway.pem"
key = "{dir}/gateway.key"
"""


def write_broker(dir):
    """Mosquitto's settings; its ports: with client certificates, and plain for the landing beside it."""
    ports = free_port(), free_port()
    make_certificates(dir, {"gateway": "soak"})
    (dir / "broker").mkdir()
    (dir / "acl").write_text("pattern write ingot/bronze/%u/#\n")
    (dir / "mosquitto.conf").write_text(settings(dir, *ports) + PERSISTENCE.format(dir=dir))
    return ports


def write_gateway(dir, port):
    (dir / "gateway.toml").write_text(GATEWAY.format(dir=dir, port=port, age_ms=AGE_MS))


class Part:
    """A program that is started again after each kill; its log goes on in one file."""

    def __init__(self, name, dir, *command, stdin=False):
        self.name, self.command, self.stdin = name, [str(word) for word in command], stdin
        self.log, self.out = dir / f"{name}.log", dir / f"{name}.out"
        self.kills = 0
        self.process = None

    async def start(self):
        stdin = subprocess.PIPE if self.stdin else subprocess.DEVNULL
        with self.log.open("ab") as log, self.out.open("wb") as out:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=stdin, stdout=out, stderr=log
            )

    async def kill(self):
        """kill -9. A part that ended by itself before that is a fault of its own."""
        if self.process.returncode is not None:
            raise SystemExit(f"{self.name} ended by itself with {self.process.returncode}, see {self.log}")
        self.process.kill()
        await self.process.wait()
        self.kills += 1

    async def stop(self):
        if self.process and self.process.returncode is None:
            self.process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(self.process.wait(), 10)
            self.process.kill()
            await self.process.wait()
