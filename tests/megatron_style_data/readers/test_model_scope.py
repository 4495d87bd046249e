"""``ms://``: what is missing is said, and nothing is fetched by accident."""

import importlib.util

import pytest

from megatron_style_data.errors import MissingInputError, SettingError
from megatron_style_data.readers import expand_inputs
from megatron_style_data.readers.model_scope import parse_address


def test_an_address_names_dataset_and_files() -> None:
    assert parse_address("ms://owner/name?files=a*&revision=v1") == ("owner/name", {"files": "a*", "revision": "v1"})


@pytest.mark.parametrize(
    "address", ["ms://", "ms://name?files=*", "ms://a/b", "ms://a/b?files=", "ms://a/b?files=*&x=1"]
)
def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match=r"expected ms://OWNER/NAME\?files=PATTERN, such as files=data/part-00\*"):
        expand_inputs([address])


@pytest.mark.skipif(importlib.util.find_spec("modelscope") is not None, reason="ModelScope's library is installed")
def test_without_the_library_it_is_said_what_to_install() -> None:
    with pytest.raises(MissingInputError, match=r"needs ModelScope's library: pip install modelscope\. Or fetch .*a/b"):
        expand_inputs(["ms://a/b?files=*"])
