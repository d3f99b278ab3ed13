"""The board's Debian package, built, unpacked and run: python3 gateway/packaging/test_package.py

Cross-built without optimisation (PROFILE=quick); the binary runs under qemu-user, its frames are decoded
by the Python decoder that was written from docs/wire-format.md alone. `Aarch64` or `Armv7` as an argument
takes one board.
"""

import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/python"))
import decode_frame  # noqa: E402

SECONDS_MAX = 60  # for one run of the emulated program
EXPOSURE_MAX = 20  # tenths; 0 is the tightest sandbox, 100 none

FILES = {
    "etc/ingot/gateway.toml": 0o644,
    "usr/bin/ingot-gateway": 0o755,
    "usr/lib/systemd/system/ingot-gateway.service": 0o644,
    "usr/lib/sysusers.d/ingot-gateway.conf": 0o644,
    "usr/share/doc/ingot-gateway/copyright": 0o644,
    "usr/share/doc/ingot-gateway/gateway.example.toml": 0o644,
    "usr/share/doc/ingot-gateway/operations.md": 0o644,
    "usr/share/doc/ingot-gateway/wire-format.md": 0o644,
    "usr/share/ingot/contracts/sensor_readings.yaml": 0o644,
}


def run(*command, **more):
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=SECONDS_MAX, **more
    )


class Package:
    @classmethod
    def setUpClass(cls):
        built = subprocess.run(
            [HERE / "deb.sh", cls.board],
            env=os.environ | {"PROFILE": "quick"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        cls.deb = Path(built.stdout.split()[-1])
        cls.temporary = tempfile.TemporaryDirectory()
        cls.root = Path(cls.temporary.name) / "root"
        subprocess.run(["dpkg-deb", "-x", cls.deb, cls.root], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def gateway(self, *args, **more):
        program = self.root / "usr/bin/ingot-gateway"
        return run(HERE / "emulate.sh", self.board, program, *args, **more)

    def test_files_and_their_permissions(self):
        found = {
            str(path.relative_to(self.root)): path.stat().st_mode & 0o7777
            for path in self.root.rglob("*")
            if path.is_file()
        }
        self.assertEqual(found, FILES)

    def test_settings_survive_an_upgrade(self):
        conffiles = run("dpkg-deb", "--info", self.deb, "conffiles").stdout
        self.assertEqual(conffiles.split(), ["/etc/ingot/gateway.toml"])

    def test_its_user_belongs_to_the_groups_of_buses_and_serial_lines(self):
        system = self.root.parent / "system"
        shutil.copytree(self.root, system)
        made = run("systemd-sysusers", f"--root={system}", "ingot-gateway.conf")  # as its postinst does
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertRegex((system / "etc/passwd").read_text(), "(?m)^ingot:.*:/usr/sbin/nologin$")
        groups = (system / "etc/group").read_text()
        for group in ["dialout", "i2c"]:
            self.assertRegex(groups, f"(?m)^{group}:x:[0-9]+:ingot$")

    def test_it_is_for_the_board_and_its_libc(self):
        field = ("dpkg-deb", "--field", self.deb)
        self.assertEqual(run(*field, "Architecture").stdout.strip(), self.architecture)
        depends = run(*field, "Depends").stdout
        promised = tuple(map(int, re.search(r"libc6 \(>= (\d+)\.(\d+)\)", depends).groups()))
        symbols = run(f"{self.tools}-objdump", "-T", self.root / "usr/bin/ingot-gateway").stdout
        needed = [tuple(map(int, version)) for version in re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)]
        self.assertLessEqual(max(needed), promised)

    def test_its_settings_lack_the_broker_and_nothing_else(self):
        settings = self.root / "etc/ingot/gateway.toml"
        check = self.gateway("check", "--config", settings)
        self.assertEqual(check.returncode, 2, check.stderr)
        self.assertIn("1 problem(s)", check.stderr)
        self.assertIn("uplink.mqtt.host: is missing: wants the broker's name or address", check.stderr)

        filled = self.root.parent / "gateway.toml"
        filled.write_text(re.sub("(?m)^# host = .*$", 'host = "localhost"', settings.read_text()))
        check = self.gateway("check", "--config", filled)
        self.assertEqual(check.returncode, 0, check.stderr)

    def test_readings_become_the_same_frames_as_everywhere(self):
        numbers = random.Random(1)
        lines, expected = [], []
        for seq in range(2_000):
            value = None if seq % 97 == 0 else 20 + numbers.random() / 10
            reading = {"device": f"d{seq % 3}", "channel": "temperature", "value": value}
            reading |= {"at": 1_767_225_600_000 + seq * 250, "seq": seq, "boot": 7}
            lines.append(json.dumps(reading))
            bits, quality = ("-", 4) if value is None else (struct.pack(">d", value).hex(), 0)
            expected.append(f"{reading['device']} 7 temperature {seq} {reading['at']} {bits} {quality}")
        lake, spool = self.root.parent / "lake", self.root.parent / "spool"
        ended = self.gateway(
            *("run", "--name", "pi", "--format", "json", "--lake", f"file://{lake}", "--spool", spool),
            input="\n".join(lines),
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual(json.loads(ended.stdout)["acked_readings"], len(lines))
        frames = [
            frame
            for found in sorted(lake.rglob("*.ingot"))
            for frame in found.read_bytes().split(b"\0")
            if frame
        ]
        decoded = [line for frame in frames for line in list(decode_frame.decode(frame))[1:]]
        self.assertEqual(decoded, expected)

    def test_systemd_takes_the_unit_and_shuts_it_in(self):
        packed = (self.root / "usr/lib/systemd/system/ingot-gateway.service").read_text()
        unit = self.root.parent / "ingot-gateway.service"
        # systemd looks whether the program is there.
        unit.write_text(packed.replace("/usr/bin/ingot-gateway", str(self.root / "usr/bin/ingot-gateway")))
        verify = run("systemd-analyze", "verify", unit)
        self.assertEqual((verify.returncode, verify.stderr), (0, ""))

        exposure = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
        exposure += [f"--threshold={EXPOSURE_MAX}", unit]
        shut_in = run(*exposure)
        self.assertEqual(shut_in.returncode, 0, shut_in.stdout + shut_in.stderr)
        unit.write_text(packed.replace("SystemCallFilter=", "#"))
        self.assertNotEqual(run(*exposure).returncode, 0, "a looser sandbox passes too")


class Aarch64(Package, unittest.TestCase):
    board, architecture, tools = "aarch64", "arm64", "aarch64-linux-gnu"


class Armv7(Package, unittest.TestCase):
    board, architecture, tools = "armv7", "armhf", "arm-linux-gnueabihf"


if __name__ == "__main__":
    unittest.main(verbosity=2)
