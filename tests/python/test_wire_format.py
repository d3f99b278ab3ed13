"""A decoder written from docs/wire-format.md alone reads the golden frames as Ingot does."""

from pathlib import Path

import decode_frame
import pytest

GOLDEN = sorted((Path(__file__).parents[2] / "agent/tests/golden").glob("v*/*.hex"))


def test_there_are_golden_frames():
    assert len(GOLDEN) >= 4


@pytest.mark.parametrize("frame", GOLDEN, ids=lambda path: path.stem)
def test_the_document_is_enough_to_decode(frame):
    readings = list(decode_frame.decode(bytes.fromhex(frame.read_text())))
    assert readings == frame.with_suffix(".txt").read_text().splitlines()
