"""Fixtures that all tests share."""

from collections.abc import Iterator

import pytest
from ranks import Ranks
from tiny import Tiny, make_tiny


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Runs functions on real ranks; see tests/support/ranks.py."""
    pool = Ranks()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tokenizer, a dataset and recipes for runs of a second or two."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))
