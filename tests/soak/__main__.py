"""The whole road under random kills and cuts, and the proof that nothing was lost or counted twice.

    python3 tests/soak [SECONDS] [--seed N] [--keep] [--gateway COMMAND]

A simulated fleet feeds the real gateway, over a link that is cut and freezes, to a real Mosquitto with
client certificates; `ingot-processor land` stores, `ingot-processor watch` processes. Each of them is
killed with kill -9 at random moments. At the end `ingot-processor audit` and `ingot-sim verify` judge.
Exit code 0: clean. INGOT_BIN names the folder of the programs; without it they are built. COMMAND starts
another gateway than the one there, such as a board's under emulation.
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(1, str(ROOT / "tests"))

from feeder import RESEND_S, Feeder  # noqa: E402
from link import Link  # noqa: E402
from parts import Part, write_broker, write_gateway  # noqa: E402
from shared.broker import mosquitto  # noqa: E402
from shared.programs import programs  # noqa: E402

DEVICES, RATE = 20, 10  # readings a second of each
SETTLE_S = 120  # for the way from spool to silver after the last fault


class Soak:
    def __init__(self, bin, dir, seconds, seed, gateway):
        self.bin, self.dir, self.seconds, self.seed = bin, dir, seconds, seed
        self.program = gateway.split() if gateway else [bin / "ingot-gateway"]
        self.random = random.Random(seed)
        self.lake = f"file://{dir}/lake"
        self.cuts = 0

    def command(self, *words):
        return subprocess.run([self.bin / words[0], *words[1:]], capture_output=True, text=True)

    async def run(self):
        fleet = ["--devices", str(DEVICES), "--rate", str(RATE), "--seconds", str(self.seconds)]
        fleet += ["--seed", str(self.seed), "--start-ms", str(int(time.time() * 1000))]
        lines, truth = self.dir / "readings.ndjson", self.dir / "truth.tsv"
        self.command("ingot-sim", "fleet", *fleet, "--out", lines, "--truth", truth).check_returncode()
        self.feeder = Feeder(lines.read_bytes().splitlines(keepends=True), self.seconds)

        tls_port, plain_port = write_broker(self.dir)
        self.link = Link(tls_port)
        await self.link.start()
        write_gateway(self.dir, self.link.port)
        processor, lake = self.bin / "ingot-processor", ["--lake", self.lake]
        gateway = [*self.program, "run", "--format", "json", "--config", self.dir / "gateway.toml"]
        self.broker = Part("broker", self.dir, mosquitto(), "-c", self.dir / "mosquitto.conf")
        broker = ["--mqtt", f"127.0.0.1:{plain_port}"]
        self.landing = Part("landing", self.dir, processor, "land", *lake, *broker)
        self.watch = Part("processor", self.dir, processor, "watch", *lake, "--every-s", "2")
        self.gateway = Part("gateway", self.dir, *gateway, stdin=True)
        self.parts = [self.broker, self.landing, self.watch, self.gateway]
        try:
            for part in self.parts:
                await part.start()
            self.feeder.attach(self.gateway.process.stdin)
            feeding = asyncio.create_task(self.feeder.run())
            await self.faults(feeding)
            await feeding
            return await self.judge(truth)
        finally:
            for part in self.parts:
                await part.stop()

    async def faults(self, feeding):
        """Every few seconds something fails; the last RESEND_S seconds stay calm, so that feeding ends."""
        faults = [self.kill_gateway, self.kill_gateway, self.cut_link, self.freeze_link, self.kill_broker]
        faults += [lambda: self.kill(self.landing), lambda: self.kill(self.watch)]
        end = time.monotonic() + self.seconds - RESEND_S
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 5))
            if time.monotonic() > end or feeding.done():
                return
            await self.random.choice(faults)()

    async def kill(self, part):
        await part.kill()
        await asyncio.sleep(self.random.uniform(0, 2))
        await part.start()

    async def kill_gateway(self):
        await self.gateway.kill()
        self.feeder.detach()
        await asyncio.sleep(self.random.uniform(0, 2))
        await self.gateway.start()
        self.feeder.attach(self.gateway.process.stdin)

    async def cut_link(self):
        self.link.cut()
        self.cuts += 1
        await asyncio.sleep(self.random.uniform(0.2, 6))
        self.link.mend()

    async def freeze_link(self):
        self.link.moving.clear()
        self.cuts += 1
        await asyncio.sleep(self.random.uniform(0.2, 12))
        self.link.mend()

    async def kill_broker(self):
        """Mosquitto saves its queue just after its PUBACK; killed in between it forgets what it has
        confirmed, and no gateway can know. So the link is cut first, in the middle of whatever it
        carries, and Mosquitto has a moment to save what it took."""
        self.link.cut()
        await asyncio.sleep(0.5)
        await self.kill(self.broker)
        self.link.mend()

    async def judge(self, truth):
        self.gateway.process.stdin.close()
        ended = await asyncio.wait_for(self.gateway.process.wait(), SETTLE_S)
        await self.watch.stop()
        deadline = time.monotonic() + SETTLE_S
        while True:  # until what the broker still holds has landed
            run = self.command("ingot-processor", "run", "--lake", self.lake)
            verify = ["ingot-sim", "verify", "--truth", truth, "--lake", self.lake, "--format", "json"]
            verify = self.command(*verify)
            if verify.returncode == 0 or time.monotonic() > deadline:
                break
            await asyncio.sleep(2)
        audit = self.command("ingot-processor", "audit", "--lake", self.lake)
        self.print(json.loads(verify.stdout or "{}"))
        clean = True
        for name, code, text in [
            ("gateway", ended, self.gateway.out.read_text()),
            ("run", run.returncode, run.stderr),
            ("verify", verify.returncode, verify.stderr + verify.stdout),
            ("audit", audit.returncode, audit.stderr + audit.stdout),
        ]:
            if code != 0:
                clean = False
                print(f"{name} exited with {code}: {text.strip()}")
        return clean

    def print(self, found):
        twice = "SELECT 1 FROM silver.sensor_readings GROUP BY device, boot, seq HAVING count(*) > 1"
        doubles = f"SELECT count(*) AS n FROM ({twice}) AS twice"
        removed = "SELECT count(*) AS n FROM discard WHERE rule = 'duplicate'"
        kills = ", ".join(f"{part.name} {part.kills}" for part in reversed(self.parts))
        rows = [
            ("seed, seconds", f"{self.seed}, {self.seconds}"),
            ("kill -9", f"{sum(part.kills for part in self.parts)} ({kills})"),
            ("link cut or frozen", self.cuts),
            ("readings produced", found.get("produced")),
            ("  delivered", found.get("silver", 0) + found.get("discarded", 0)),
            ("  lost", found.get("elsewhere")),
            ("  duplicated in silver", self.count(doubles)),
            ("  altered or misjudged", found.get("wrong")),
            ("lines fed again after a kill", self.feeder.again),
            ("duplicates removed", self.count(removed)),
        ]
        for name, value in rows:
            print(f"{name:30} {value}", flush=True)

    def count(self, sql):
        asked = self.command("ingot-processor", "query", "--lake", self.lake, "--format", "json", sql)
        return json.loads(asked.stdout)["n"] if asked.returncode == 0 else f"? {asked.stderr.strip()}"


def main():
    words = argparse.ArgumentParser(usage=__doc__)
    words.add_argument("seconds", type=int, nargs="?", default=300)
    words.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    words.add_argument("--keep", action="store_true")
    words.add_argument("--gateway")
    words = words.parse_args()
    if not mosquitto():
        sys.exit("mosquitto is missing: apt-get install mosquitto")
    dir = Path(tempfile.mkdtemp(prefix="ingot-soak-"))
    clean = False
    try:
        clean = asyncio.run(Soak(programs(), dir, words.seconds, words.seed, words.gateway).run())
    finally:
        if clean and not words.keep:
            shutil.rmtree(dir)
        else:
            print(f"seed {words.seed}; lake, spool and logs are in {dir}")
    sys.exit(0 if clean else 1)


main()
