import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # translate.py

from judge import Stack  # noqa: E402
from translate import template  # noqa: E402


@pytest.fixture(scope="session")
def stack() -> Stack:
    return Stack(template())
