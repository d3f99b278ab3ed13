"""Analysts read silver and gold with their own tools and find what Ingot says is there."""

import json
import subprocess

import duckdb
import polars as pl
import polars.testing
import pytest
from deltalake import DeltaTable


@pytest.fixture(scope="module")
def demo(tmp_path_factory, bin):
    out = tmp_path_factory.mktemp("demo")
    words = ["demo", "--devices", "6", "--seconds", "3", "--seed", "7", "--format", "json", "--out", str(out)]
    summary = json.loads(subprocess.check_output([bin / "ingot-sim", *words]))
    return summary, out / "lake"


def test_polars_counts_what_the_demo_said(demo):
    summary, lake = demo
    silver = pl.scan_delta(str(lake / "silver" / "sensor_readings")).collect()
    assert len(silver) == summary["silver"] > 0
    assert silver.select("device", "boot", "seq").is_unique().all()
    discard = pl.scan_delta(str(lake / "discard")).collect()
    assert len(discard) == summary["discarded"] + summary["duplicates"]


def test_duckdb_sums_what_the_ledger_says(demo):
    summary, lake = demo
    ledger = DeltaTable(str(lake / "ledger")).to_pyarrow_dataset()  # noqa: F841, named in the SQL
    rows = duckdb.sql("SELECT sum(rows_in), sum(silver + discarded + duplicates) FROM ledger").fetchall()[0]
    assert rows[0] == rows[1] == summary["produced"] - summary["dropped"] + summary["duplicates"]


def test_gold_is_what_polars_computes_from_silver(demo):
    _, lake = demo
    value = pl.col("value")
    expected = (
        pl.scan_delta(str(lake / "silver" / "sensor_readings"))
        .group_by("device", "channel", pl.col("at").dt.truncate("1h").alias("window_start"))
        .agg(
            pl.len().cast(pl.Int64).alias("count"),
            value.min().alias("min"),
            value.max().alias("max"),
            value.mean().alias("mean"),
            value.std().alias("stddev"),
            value.quantile(0.50, "linear").alias("p50"),
            value.quantile(0.95, "linear").alias("p95"),
            value.quantile(0.99, "linear").alias("p99"),
            pl.col("at").min().alias("first_at"),
            pl.col("at").max().alias("last_at"),
            (pl.col("quality") != 0).sum().cast(pl.Int64).alias("flagged"),
        )
        .sort("device", "channel", "window_start")
        .collect()
    )
    gold = (
        pl.scan_delta(str(lake / "gold" / "sensor_hourly"))
        .select(expected.columns)
        .sort("device", "channel", "window_start")
        .collect()
    )
    assert len(gold) > 0
    pl.testing.assert_frame_equal(gold, expected, rel_tol=1e-9, abs_tol=1e-9)
