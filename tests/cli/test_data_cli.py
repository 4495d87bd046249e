"""``zhgpt data`` as a user runs it: output, progress and exit codes."""

import json
from pathlib import Path

import pytest
from commands import zhgpt

from megatron_style_data.tokenizer import train_bpe
from zhgpt.cli.data_progress import progress

TEXTS = [f"第{number}篇。村民们都很高兴，在田里唱歌。国家保护公民的权利。" for number in range(50)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a tokenizer and a dataset built by the command."""
    folder = tmp_path_factory.mktemp("data")
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]
    (folder / "corpus.jsonl").write_text("\n".join([*lines, "not json", ""]), "utf-8")
    train_bpe(TEXTS, 350, folder / "tokenizer")
    built = zhgpt("data", "build", "--input", folder / "corpus.jsonl", "--tokenizer", folder / "tokenizer",
                       "--output", folder / "d", "--valid-fraction", "0.1", "--workers", "2")  # fmt: skip
    (folder / "build.txt").write_text(built.stdout, "utf-8")
    return folder


def test_build_tells_what_it_made_and_what_it_dropped(folder: Path) -> None:
    told = (folder / "build.txt").read_text("utf-8")
    assert "dropped 1 not JSON, first: " in told
    assert "corpus.jsonl, line 51" in told
    for piece in ("documents             50", "huggingface", "unigram floor", "train         45", "valid          5"):
        assert piece in told


def test_a_second_build_is_refused_with_74_unless_forced(folder: Path) -> None:
    words = ("build", "--input", folder / "corpus.jsonl", "--tokenizer", folder / "tokenizer", "--output", folder / "d",
             "--valid-fraction", "0.1")  # fmt: skip
    before = Path(f"{folder}/d.bin").read_bytes()
    refused = zhgpt("data", *words, code=74)
    assert refused.stderr.startswith("error: ")
    assert "this dataset exists already; choose another output or pass --force." in refused.stderr
    zhgpt("data", *words, "--force")
    assert Path(f"{folder}/d.bin").read_bytes() == before


def test_verify_says_whole_or_ends_with_65(folder: Path, tmp_path: Path) -> None:
    assert "d: whole; 50 documents" in zhgpt("data", "verify", folder / "d").stdout
    for suffix in (".bin", ".idx", ".meta.json"):
        Path(f"{tmp_path}/copy{suffix}").write_bytes(Path(f"{folder}/d{suffix}").read_bytes())
    damaged = bytearray((tmp_path / "copy.bin").read_bytes())
    damaged[100] ^= 1
    (tmp_path / "copy.bin").write_bytes(damaged)
    assert "checksums differ in bytes 0-" in zhgpt("data", "verify", tmp_path / "copy", code=65).stderr
    (tmp_path / "copy.bin").write_bytes(damaged[:-2])
    assert "copy.bin: truncated" in zhgpt("data", "verify", tmp_path / "copy", code=65).stderr


def test_inspect_shows_tables_and_readable_text(folder: Path) -> None:
    assert "share of tokens" in zhgpt("data", "inspect", folder / "d").stdout
    first = zhgpt("data", "inspect", folder / "d", "--document", 0).stdout
    assert first.strip().removesuffix("<|endoftext|>") in TEXTS
    held_out = zhgpt("data", "inspect", folder / "d", "--document", 4, "--split", "valid").stdout
    assert held_out.strip().removesuffix("<|endoftext|>") in TEXTS
    refused = zhgpt("data", "inspect", folder / "d", "--document", 5, "--split", "valid", code=2)
    assert "document 5: split valid has documents 0 to 4" in refused.stderr
    assert "name one with --document" in zhgpt("data", "inspect", folder / "d", "--split", "valid", code=2).stderr


def test_adopt_says_which_documents_it_holds_out_and_warns_of_open_ends(folder: Path, tmp_path: Path) -> None:
    from megatron_style_data.indexed_dataset import IndexedDataset, index_chunks

    dataset = IndexedDataset.open(folder / "d")
    (tmp_path / "theirs.bin").write_bytes(dataset.tokens.tobytes()[:-2])
    lengths = dataset.sequence_lengths.copy()
    lengths[-1] -= 1
    (tmp_path / "theirs.idx").write_bytes(b"".join(index_chunks("uint16", lengths, dataset.document_indices)))
    told = zhgpt(
        "data", "adopt", tmp_path / "theirs", "--tokenizer", folder / "tokenizer", "--valid-fraction", "0.1"
    ).stdout
    assert "held out: the last 5 as valid" in told
    assert "warning: 1 of 50 documents do not end with <|endoftext|> (first: document 49)" in told
    told = zhgpt("data", "adopt", tmp_path / "theirs", "--tokenizer", folder / "tokenizer", "--force").stdout
    assert "held out: nothing; all documents are train" in told
    zhgpt("data", "verify", tmp_path / "theirs")


@pytest.mark.parametrize(
    ("changed", "code", "sentence"),
    [
        ({"--input": "nowhere.jsonl"}, 66, "nowhere.jsonl: no such file"),
        ({"--tokenizer": "nowhere"}, 66, "nowhere: no such file or folder"),
        ({"--valid-fraction": "1.5"}, 2, "valid fraction 1.5"),
        ({"--workers": "0"}, 2, "workers 0"),
        ({"--on-bad": "refuse"}, 65, "corpus.jsonl, line 51"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_its_code(
    folder: Path, tmp_path: Path, changed: dict[str, str], code: int, sentence: str
) -> None:
    words = {
        "--input": str(folder / "corpus.jsonl"),
        "--tokenizer": str(folder / "tokenizer"),
        "--output": str(tmp_path / "out"),
        **changed,
    }
    refused = zhgpt("data", "build", *(word for pair in words.items() for word in pair), code=code)
    assert refused.stderr.startswith("error: ")
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())


def test_progress_without_a_terminal_is_plain_lines_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(float(second) for second in range(0, 1000, 6))
    monkeypatch.setattr("zhgpt.cli.data_progress.time.monotonic", lambda: next(clock))
    with progress(about=True) as tell:
        for done in (0, 30_000_000, 60_000_000, 110_000_000):
            tell("encoding", done, 100_000_000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "encoding …"
    assert lines[-2].startswith("encoding: 60.0 of about 100.0 MB, ")
    assert "MB/s, about " in lines[-2]
    assert lines[-2].endswith(" s left")
    assert lines[-1].startswith("encoding: 110.0 MB, ")  # the estimate was too low
    assert lines[-1].endswith(" MB/s")
