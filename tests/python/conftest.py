"""What these tests have in common."""

import sys
from pathlib import Path

import pytest

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from shared import programs  # noqa: E402


@pytest.fixture(scope="session")
def bin() -> Path:
    """The folder of Ingot's programs."""
    return programs.programs()
