"""Every reader of a file returns a value, or raises its own exception with a message to show.

The same inputs every time, and a few hundred of them; scripts/fuzz.py tries as many as it is told.
"""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.target import execute
from tests.fuzz.targets import TARGETS

SOME = settings(max_examples=300, derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_read_or_refused(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    target.prepare(tmp_path)

    @SOME
    @given(st.integers(0, 2**32))
    def run(number: int) -> None:
        execute(target, tmp_path, target.make(Random(number)))

    run()
