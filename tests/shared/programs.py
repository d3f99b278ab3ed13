"""Where Ingot's programs are, as a test needs them."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def target():
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def programs():
    """The folder that `INGOT_BIN` names; without it they are built."""
    if "INGOT_BIN" in os.environ:
        return Path(os.environ["INGOT_BIN"]).resolve()
    build = ["cargo", "build", "--locked", "--quiet", "--workspace", "--all-features", "--bins"]
    subprocess.run(build, cwd=ROOT, check=True)
    return target() / "debug"
