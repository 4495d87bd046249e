"""Fixtures that all tests share."""

from collections.abc import Iterator

import hypothesis
import pytest
from ranks import Ranks
from tiny import Tiny, make_tiny

# How long an example takes says something of the machine and what else it does; hypothesis allows 200 ms otherwise.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests keep to one worker: all that start ranks to the same one, and those of a file to one.

    So one set of ranks runs at a time, and what a file's tests share is made once.
    """
    for item in items:
        ranks = item.get_closest_marker("distributed") is not None
        item.add_marker(pytest.mark.xdist_group("ranks" if ranks else str(item.path.relative_to(item.config.rootpath))))


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
