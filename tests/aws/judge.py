"""The judgments: the lake's own books, the ground truth, and the same bronze processed in one quiet run on a disk."""

import json
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from decimal import Decimal

from deltalake import DeltaTable
from world import BUCKET, PREFIX, SECRET

# Which of two objects with an equal row is named, where in it, and when that was written, may differ from run to run.
FREE = {"bronze_key", "bronze_etag", "ordinal", "discarded_at", "byte_offset", "byte_len"}
CLOSE = 1e-9  # of gold's floats, whose sums depend on their order; silver's are the same to the bit


def copied(world, name):
    """The lake as it is now, in a folder, with its objects' times."""
    dir = world.dir / name
    for object in world.objects():
        file = dir / object["Key"].removeprefix(PREFIX)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(world.s3.get_object(Bucket=BUCKET, Key=object["Key"])["Body"].read())
        written = object["LastModified"].timestamp()
        os.utime(file, (written, written))
    return OnDisk(dir)


class OnDisk:
    """A lake in a folder, as others' readers see it."""

    def __init__(self, dir):
        self.dir, self.lake = dir, f"file://{dir}"

    def table(self, path):
        """Rows of a table, as often as they are there."""
        if not (self.dir / path / "_delta_log").is_dir():
            return Counter()
        rows = DeltaTable(str(self.dir / path)).to_pyarrow_table().to_pylist()
        return Counter(
            tuple((name, value(name, row[name])) for name in sorted(row) if name not in FREE) for row in rows
        )

    def tables(self, tier):
        return [f"{tier}/{found.name}" for found in sorted((self.dir / tier).glob("*"))]

    def texts(self):
        """All that stands in the tables, for a search; bronze left out."""
        for log in self.dir.rglob("_delta_log"):
            rows = DeltaTable(str(log.parent)).to_pyarrow_table().to_pylist()
            yield from (json.dumps(row, default=str) for row in rows)


def value(name, found):
    """A value as it is compared."""
    if name == "record":
        return re.sub(r',"ordinal":\d+', "", found or "")
    return str(found) if isinstance(found, (Decimal, list, dict)) else found


def quiet(world, copy):
    """The copy's bronze alone, processed by one program in one run."""
    dir = world.dir / "quiet"
    dir.mkdir()
    shutil.copytree(copy.dir / "bronze", dir / "bronze")  # with its times
    key = world.dir / "pseudonym.key"
    key.write_text(SECRET)
    words = ["run", "--lake", f"file://{dir}", "--pseudonym-key-file", key]
    done = processor(world, *words, *contract_words(world))
    if done.returncode not in (0, 1):
        raise AssertionError(f"the quiet run: {done.stderr}")
    return OnDisk(dir)


def differences(one, other):
    """Rows of silver, versions, gold and discard that only one of two lakes has, by table; and how many were compared."""
    wrong, compared = {}, {}
    paths = {path for tier in ("silver", "versions", "gold") for lake in (one, other) for path in lake.tables(tier)}
    for path in sorted(paths | {"discard"}):
        rows, others = one.table(path), other.table(path)
        compared[path] = sum(rows.values())
        equal = are_close(rows, others) if path.startswith("gold/") else rows == others
        if not equal:
            wrong[path] = [*list((rows - others).items())[:3], *list((others - rows).items())[:3]]
    return wrong, compared


def are_close(rows, others):
    """Whether gold's rows are the same but for the last digits of what was summed up."""

    def parts(row):
        exact = [(name, found) for name, found in row if not isinstance(found, float)]
        return repr(exact), [found for _, found in row if isinstance(found, float)]

    rows, others = sorted(map(parts, rows.elements())), sorted(map(parts, others.elements()))
    return len(rows) == len(others) and all(
        exact == other_exact
        and len(floats) == len(other_floats)
        and all(math.isclose(*pair, rel_tol=CLOSE, abs_tol=CLOSE) for pair in zip(floats, other_floats))
        for (exact, floats), (other_exact, other_floats) in zip(rows, others)
    )


def audit(world, **more):
    """The verdict of the command on the lake in S3, with the operator's rights."""
    words = ["audit", "--lake", world.lake, "--format", "json", *contract_words(world)]
    done = processor(world, *words, env=world.credentials["OperatorRole"] | world.endpoint)
    if done.returncode not in (0, 1):
        raise AssertionError(f"audit exited with {done.returncode}: {done.stderr}")
    return done.returncode, json.loads(done.stdout)


def mentions(world, prefix, text, versions=False):
    """Keys of objects that hold the text as it is, with their old versions or without."""
    if versions:
        pages = world.s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=PREFIX + prefix)
        objects = [found for page in pages for found in page.get("Versions", [])]
    else:
        objects = world.objects(prefix)
    places = [{name: found[name] for name in ("Key", "VersionId") if name in found} for found in objects]
    bodies = ((place["Key"], world.s3.get_object(Bucket=BUCKET, **place)["Body"].read()) for place in places)
    return [key for key, body in bodies if text.encode() in body]


def verify(world, truth, lake):
    words = [world.bin / "ingot-sim", "verify", "--truth", truth, "--lake", lake, "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def processor(world, *words, env=None, input=None):
    env = env and {"PATH": os.environ["PATH"], **env}
    command = [world.bin / "ingot-processor", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, input=input)


def contract_words(world):
    return [
        word for file in sorted((world.task_root / "contracts").glob("*.yaml")) for word in ("--contract", file)
    ]
