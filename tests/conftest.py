"""Fixtures that all tests share."""

from collections.abc import Iterator

import hypothesis
import pytest
from ranks import Ranks
from tiny import Tiny, make_tiny

# How long an example takes says something of the machine and what else it does; hypothesis allows 200 ms otherwise.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        choices=("quick", "long"),
        help="only what can run on several workers, or only the rest (tests/run.sh)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("--part")
    if part is None:
        return
    left_out = [item for item in items if (part == "long") != _is_long(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if (part == "long") == _is_long(item)]


def _is_long(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "distributed"))


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
