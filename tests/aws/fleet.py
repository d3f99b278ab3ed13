"""What the gateways are fed: a simulated fleet with its ground truth, and some sensors that are broken."""

import json
import struct
import subprocess
import time

DEVICES, RATE, SECONDS = 20, 5, 60
BROKEN_DEVICES, BROKEN_READINGS = 4, 130
TOO_HOT = 999.5  # the contract's temperatures end at 85


class Fleet:
    """`early` and `late` are lines of NDJSON by gateway; `truth` is the file with what was produced."""

    def __init__(self, bin, dir, gateways, seed):
        start_ms = int((time.time() - SECONDS - 60) * 1000)
        lines, self.truth = dir / "fleet.ndjson", dir / "truth.tsv"
        words = ["--devices", DEVICES, "--rate", RATE, "--seconds", SECONDS, "--seed", seed]
        words += ["--start-ms", start_ms, "--out", lines, "--truth", self.truth]
        subprocess.run([bin / "ingot-sim", "fleet", *map(str, words)], check=True, capture_output=True)
        readings = lines.read_bytes().splitlines(keepends=True)
        quarter = len(readings) // 4
        self.early = split(readings[:quarter], gateways)
        self.late = split(readings[quarter:], gateways)
        self.early[gateways[0]] += self.break_sensors(start_ms)

    def break_sensors(self, start_ms):
        """Readings far out of range, known to the truth as all others are."""
        lines = []
        with self.truth.open("a") as truth:
            for device in (f"hot-{number}" for number in range(BROKEN_DEVICES)):
                for seq in range(BROKEN_READINGS):
                    reading = {"device": device, "boot": 1, "seq": seq, "channel": "temperature"}
                    reading |= {"at": start_ms + seq * 100, "value": TOO_HOT}
                    lines.append(json.dumps(reading).encode() + b"\n")
                    bits = struct.pack(">d", TOO_HOT).hex()
                    truth.write(f"{device}\t1\t{seq}\ttemperature\t{reading['at']}\t{bits}\n")
        return lines


def split(lines, gateways):
    """Each device talks to one gateway, in order."""
    parts = {gateway: [] for gateway in gateways}
    homes = {}
    for line in lines:
        device = json.loads(line)["device"]
        home = homes.setdefault(device, gateways[sum(device.encode()) % len(gateways)])
        parts[home].append(line)
    return parts
