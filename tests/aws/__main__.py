"""The cloud half, end to end, against stand-ins.

    python3 tests/aws [--seed N] [--keep]

The template of `infra/` becomes a stack in moto. Gateways send a simulated fleet's readings to Mosquitto with client
certificates, which stands for IoT Core; `ingot-processor land` plays the topic rule. From there S3's events, queues
and the real program under the Lambda Runtime API do what they do in AWS, each with the rights that the template
grants it and no others: a proxy denies the rest. `world.py` has the parts, `road.py` and `later.py` what
happens, `rights.py` the comparison of rights granted and used. Exit code 0: all of it as it should be.
INGOT_BIN names the folder of the programs; without it they are built.
"""

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[1:1] = [str(ROOT / "tests"), str(ROOT / "infra")]

import privacy  # noqa: E402
import rights  # noqa: E402
from later import Later  # noqa: E402
from road import Road  # noqa: E402
from shared.broker import mosquitto  # noqa: E402
from shared.programs import programs, target  # noqa: E402
from world import World  # noqa: E402


class Telling:
    """A line for each step, with its numbers."""

    def __init__(self):
        self.begin = time.monotonic()

    def __call__(self, step, **numbers):
        seen = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items())
        print(f"{time.monotonic() - self.begin:6.1f} s  {step}" + (f": {seen}" if seen else ""), flush=True)


def act(world, tell):
    world.start()
    road = Road(world, tell)
    road.run()
    Later(world, road, tell).run()
    world.ship_logs()
    wrong = rights.compare(world.recorder)
    requests = sum(world.recorder.requests.values())
    tell("rights granted and rights used", grants=len(world.recorder.used), requests=requests, wrong=len(wrong))
    leaks = privacy.leaks(world, road)
    tell("canaries in logs, alerts and tables", seen=len(leaks))
    for line in wrong + leaks:
        print(f"          {line}")
    return not wrong + leaks


def main():
    words = argparse.ArgumentParser(usage=__doc__)
    words.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    words.add_argument("--keep", action="store_true")
    words = words.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all parts are ended
    if not mosquitto():
        sys.exit("mosquitto is missing: apt-get install mosquitto")
    dir = target() / "aws-e2e"
    shutil.rmtree(dir, ignore_errors=True)
    dir.mkdir(parents=True)
    world = World(programs(), dir, words.seed)
    good = False
    try:
        good = act(world, Telling())
    finally:
        world.stop()
        if good and not words.keep:
            shutil.rmtree(dir)
        else:
            denied = world.recorder.denied if world.recorder else []
            for role, ask in rights.sorted_asks(denied)[:20]:
                print(f"denied: {role} may not {ask.action} on {ask.resource}")
            print(f"seed {words.seed}; logs and all else are in {dir}")
    sys.exit(0 if good else 1)


main()
