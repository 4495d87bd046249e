"""``ms://``: what is fetched, what is missing is said, and nothing is fetched by accident."""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

from megatron_style_data.errors import MissingInputError, SettingError
from megatron_style_data.readers import expand_inputs
from megatron_style_data.readers.model_scope import downloaded_folder, parse_address

INSTALLED = importlib.util.find_spec("modelscope") is not None


class HubError(Exception):
    """Stands for modelscope_hub.errors.HubError, which is none of Python's own."""


class Hub:
    """Stands for the hub and its library: what was asked for, and what becomes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, object]] = []
        self.fails: Exception | None = None

    def dataset_snapshot_download(
        self,
        dataset_id: str | None = None,
        revision: str | None = None,
        cache_dir: str | None = None,
        local_dir: str | None = None,
        allow_file_pattern: str | list[str] | None = None,
    ) -> str:
        """The first parameters of the library's own (modelscope/hub/snapshot_download.py), in its order."""
        self.asked.append({"dataset": dataset_id, "revision": revision, "files": allow_file_pattern})
        if self.fails is not None:
            raise self.fails
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part-00.jsonl").write_text('{"text": "老树"}\n', "utf-8")
    hub = Hub(tmp_path)
    library, errors = ModuleType("modelscope"), ModuleType("modelscope_hub.errors")
    library.dataset_snapshot_download = hub.dataset_snapshot_download  # type: ignore[attr-defined]
    errors.HubError = HubError  # type: ignore[attr-defined]
    for module in (library, ModuleType("modelscope_hub"), errors):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return hub


def test_an_address_names_dataset_and_files() -> None:
    assert parse_address("ms://owner/name?files=a*&revision=v1") == ("owner/name", {"files": "a*", "revision": "v1"})


@pytest.mark.parametrize(
    "address", ["ms://", "ms://name?files=*", "ms://a/b", "ms://a/b?files=", "ms://a/b?files=*&x=1"]
)
def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match=r"expected ms://OWNER/NAME\?files=PATTERN, such as files=data/part-00\*"):
        expand_inputs([address])


@pytest.mark.skipif(INSTALLED, reason="ModelScope's library is installed")
def test_without_the_library_it_is_said_what_to_install() -> None:
    with pytest.raises(MissingInputError, match=r"needs ModelScope's library: pip install modelscope\. Or fetch .*a/b"):
        expand_inputs(["ms://a/b?files=*"])


def test_the_named_files_are_fetched_and_read_where_the_library_put_them(hub: Hub) -> None:
    [file] = expand_inputs(["ms://owner/name?files=data/part-0*.jsonl"])
    assert file.path == hub.folder / "data" / "part-00.jsonl"
    assert hub.asked == [{"dataset": "owner/name", "revision": None, "files": "data/part-0*.jsonl"}]


def test_a_revision_is_passed_on(hub: Hub) -> None:
    assert downloaded_folder("ms://owner/name?files=*&revision=v1") == hub.folder
    assert hub.asked == [{"dataset": "owner/name", "revision": "v1", "files": "*"}]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (HubError("dataset owner/name not found\nrequest id 7"), "dataset owner/name not found"),
        (ConnectionError("no route to host"), "no route to host"),
        (ValueError(""), "ValueError"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(hub: Hub, error: Exception, said: str) -> None:
    hub.fails = error
    with pytest.raises(MissingInputError) as caught:
        expand_inputs(["ms://owner/name?files=*"])
    assert str(caught.value) == (
        f"ms://owner/name?files=*: cannot be fetched ({said}); check the name and the network, or give a folder."
    )


def test_an_older_library_without_errors_of_its_own(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modelscope_hub.errors")
    hub.fails = OSError("the disk is full")
    with pytest.raises(MissingInputError, match=r"cannot be fetched \(the disk is full\)"):
        downloaded_folder("ms://owner/name?files=*")


def test_a_bug_of_the_library_keeps_its_traceback(hub: Hub) -> None:
    hub.fails = TypeError("unexpected keyword")
    with pytest.raises(TypeError, match="unexpected keyword"):
        downloaded_folder("ms://owner/name?files=*")


def recorded(
    dataset_id=None, revision=None, cache_dir=None, local_dir=None, allow_file_pattern=None, ignore_file_pattern=None,
    allow_patterns=None, ignore_patterns=None, max_workers=None, cookies=None, repo_id=None, token=None, endpoint=None,
):  # fmt: skip
    """``dataset_snapshot_download`` of modelscope 1.40.2, by its signature."""


def test_the_library_takes_what_is_asked_of_it() -> None:
    """Where it is installed (it takes 100 MB with what it needs), the library itself is asked."""
    function = recorded
    if importlib.util.find_spec("modelscope") is not None:
        function = importlib.import_module("modelscope").dataset_snapshot_download
        error = importlib.import_module("modelscope_hub.errors").HubError
        assert issubclass(error, Exception)
        assert not issubclass(error, OSError)
    bound = inspect.signature(function).bind("owner/name", revision=None, allow_file_pattern="*")
    assert bound.arguments == {"dataset_id": "owner/name", "revision": None, "allow_file_pattern": "*"}
