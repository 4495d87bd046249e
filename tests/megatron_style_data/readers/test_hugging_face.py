"""``hf://``: a dataset folder is streamed through the datasets library, and what cannot be is said in a sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.readers import Document, ReadCounters, ReadOptions, expand_inputs, read_corpus
from megatron_style_data.readers.hugging_face import HubDataset, parse_address

TURNS = [{"from": "human", "value": "老树有多高？"}, {"from": "gpt", "value": "十来米。"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset folder of JSON lines with a train and a test split."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, texts in {"train": ["老树", "村口"], "test": ["雨"]}.items():
        lines = [json.dumps({"id": text, "content": text * 2}, ensure_ascii=False) for text in texts]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


def stream(address: str, format: str = "auto", **options: Any) -> tuple[list[Document], ReadCounters]:
    counters = ReadCounters()
    files = expand_inputs([address], format)
    return list(read_corpus(files, ReadOptions(**options), counters)), counters


def test_an_address_names_dataset_and_parts_of_it() -> None:
    assert parse_address("hf://liwu/MNBVC") == HubDataset("liwu/MNBVC")
    assert parse_address("hf:///data/x?name=law&split=test&field=text&revision=v1&files=a%2F*.jsonl") == HubDataset(
        "/data/x", "law", "test", "text", "v1", "a/*.jsonl"
    )


@pytest.mark.parametrize(
    ("address", "found"), [("hf://", "no path"), ("hf://a/b?sprit=train", "sprit=train"), ("hf://a/b?name=", "name=")]
)
def test_an_address_that_cannot_be_is_refused(address: str, found: str) -> None:
    with pytest.raises(SettingError, match=rf"has {found}; expected hf://OWNER/NAME\?KEY=VALUE&… with name, split"):
        expand_inputs([address])


def test_a_folder_is_streamed_and_its_corpus_recognised(folder: Path) -> None:
    documents, counters = stream(f"hf://{folder}")
    assert [(document.place, document.text, document.fields) for document in documents] == [
        (1, "老树老树", {"id": "老树"}),
        (2, "村口村口", {"id": "村口"}),
    ]
    assert documents[0].source == f"hf://{folder}"
    assert counters.notes[0].startswith(f"hf://{folder}: read as cci (2 of the first 2 records look like BAAI CCI")


def test_split_field_and_files_can_be_chosen(folder: Path) -> None:
    assert [document.text for document in stream(f"hf://{folder}?split=test")[0]] == ["雨雨"]
    assert [document.text for document in stream(f"hf://{folder}?field=id")[0]] == ["老树", "村口"]
    assert [document.text for document in stream(f"hf://{folder}?files=te*.jsonl")[0]] == ["雨雨"]


def test_parquet_dialogues_are_streamed_and_filtered(tmp_path: Path) -> None:
    table = pyarrow.table({"conversations": [TURNS, TURNS], "score": [4.0, 1.0]})
    pyarrow.parquet.write_table(table, tmp_path / "train-00000.parquet")
    documents, counters = stream(f"hf://{tmp_path}", "smoltalk_chinese", min_score=3)
    assert [document.text for document in documents] == ["用户：老树有多高？\n\n助手：十来米。"]
    assert counters.dropped == {"low_score": 1}


def test_only_corpora_can_be_asked_of_a_stream(folder: Path) -> None:
    with pytest.raises(SettingError, match="is no file of format 'parquet'; take auto, or one of mnbvc"):
        expand_inputs([f"hf://{folder}"], "parquet")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?split=valid", r"Bad split: valid"),
        ("?name=law", r"'law' not found"),
        ("?files=*.csv", r"files=\*\.csv has none of the endings \.jsonl"),
    ],
)
def test_what_a_dataset_does_not_have_is_refused(folder: Path, query: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        stream(f"hf://{folder}{query}")


def test_files_that_are_not_there_are_missing(folder: Path) -> None:
    with pytest.raises(MissingInputError, match=r"expected a dataset with these files\."):
        stream(f"hf://{folder}?files=x*.jsonl")
    with pytest.raises(MissingInputError, match=r"expected a dataset with these files\."):
        stream(f"hf://{folder}/none")


def test_damaged_files_are_bad_data(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"text": ', "utf-8")
    with pytest.raises(
        BadDataError, match=r"cannot be read by the datasets library \(.*\); name its files with files="
    ):
        stream(f"hf://{folder}")


def read_without_network(address: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    code = "from zhgpt.cli.main import main; main()"
    command = ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, "-c", code]
    return subprocess.run([*command, "corpus", "read", address], capture_output=True, text=True, timeout=120)


def test_without_network_the_mirror_variable_is_named() -> None:
    done = read_without_network("hf://liwu/MNBVC?name=law", HF_HUB_OFFLINE="1")
    assert done.returncode == 66
    assert "error: hf://liwu/MNBVC?name=law: cannot be reached (" in done.stderr
    assert "set HF_ENDPOINT to a mirror" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("query", ["", "?files=law/*.jsonl.gz"])
def test_a_hub_that_refuses_connections_says_so(query: str, tmp_path: Path) -> None:
    done = read_without_network(
        f"hf://liwu/MNBVC{query}", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path), NO_PROXY="127.0.0.1"
    )
    assert done.returncode == 66
    assert "cannot be reached (" in done.stderr
    assert "Traceback" not in done.stderr
