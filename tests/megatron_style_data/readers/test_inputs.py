"""A file, a folder or a glob means certain files, in a certain order, each once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_style_data.errors import MissingInputError, SettingError, StorageError
from megatron_style_data.readers.inputs import expand_inputs, format_of

Write = Callable[[str, bytes | str], Path]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jsonl", "jsonl"),
        ("a.json", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("A.JSONL.ZST", "jsonl"),
        ("a.b.txt.zstd", "text"),
        ("a.parquet", "parquet"),
        ("README.md", None),
        ("jsonl", None),
        ("a.gz", None),
    ],
)
def test_the_name_of_a_file_says_its_format(name: str, format: str | None) -> None:
    assert format_of(name) == format


def test_a_folder_gives_everything_below_it_sorted_with_relative_names(tmp_path: Path, write: Write) -> None:
    for name in ("c/z.jsonl", "c/b/y.txt", "a.parquet", "c/.hidden.txt", ".git/x.txt", "LICENSE"):
        write(name, "")
    skipped: list[Path] = []
    files = expand_inputs([str(tmp_path)], skipped=skipped)
    assert [(file.source, file.format) for file in files] == [
        ("a.parquet", "parquet"),
        ("c/b/y.txt", "text"),
        ("c/z.jsonl", "jsonl"),
    ]
    assert files[1].path == tmp_path / "c" / "b" / "y.txt"
    assert skipped == [tmp_path / "LICENSE"]


@pytest.mark.parametrize("marks", [("corpus.json", "corpus.html"), ("deduplication.json", "clusters.jsonl")])
def test_of_a_corpus_written_here_only_its_documents_are_read(
    tmp_path: Path, write: Write, marks: tuple[str, str]
) -> None:
    for name in ("data/part-00000.jsonl", "dropped/length.jsonl", "changed/width.jsonl", *marks):
        write(f"corpora/modern/{name}", '{"text": "天下大势"}\n')
    write("corpora/other.jsonl", '{"text": "分久必合"}\n')
    found = [file.path.relative_to(tmp_path).as_posix() for file in expand_inputs([tmp_path / "corpora"])]
    assert found == ["corpora/modern/data/part-00000.jsonl", "corpora/other.jsonl"]


def test_a_folder_of_another_kind_with_such_a_name_is_read_whole(tmp_path: Path, write: Write) -> None:
    for name in ("data/a.jsonl", "corpus.json"):
        write(f"theirs/{name}", '{"text": "天下大势"}\n')
    assert len(expand_inputs([tmp_path / "theirs"])) == 2


def test_an_unfinished_cleaning_is_refused(tmp_path: Path, write: Write) -> None:
    write("modern/unfinished/plan.json", "{}")
    with pytest.raises(SettingError, match="modern: holds an unfinished cleaning; let `zhgpt corpus clean` finish it"):
        expand_inputs([tmp_path / "modern"])


def test_a_cleaning_that_only_had_to_tidy_up_is_finished(tmp_path: Path, write: Write) -> None:
    for name in ("data/a.jsonl", "corpus.json", "corpus.html", "unfinished/plan.json"):
        write(f"modern/{name}", '{"text": "天下大势"}\n')
    assert [file.source for file in expand_inputs([tmp_path / "modern"])] == ["data/a.jsonl"]


def test_a_glob_gives_its_matches_sorted(tmp_path: Path, write: Write) -> None:
    for name in ("b.jsonl", "a.jsonl", "a.txt", "c/d.jsonl"):
        write(name, "")
    assert [file.source for file in expand_inputs([f"{tmp_path}/*.jsonl"])] == ["a.jsonl", "b.jsonl"]
    assert [file.source for file in expand_inputs([f"{tmp_path}/**/*.jsonl"])] == ["a.jsonl", "b.jsonl", "d.jsonl"]


def test_a_file_whose_name_is_a_glob_is_that_file(write: Write) -> None:
    path = write("a[1].jsonl", "")
    assert [file.path for file in expand_inputs([str(path)])] == [path]


def test_inputs_keep_their_order(tmp_path: Path, write: Write) -> None:
    write("b.jsonl", "")
    write("a.jsonl", "")
    files = expand_inputs([tmp_path / "b.jsonl", tmp_path / "a.jsonl"])
    assert [file.source for file in files] == ["b.jsonl", "a.jsonl"]


def test_a_given_format_holds_whatever_the_name(tmp_path: Path, write: Write) -> None:
    write("data/part-00000", "")
    assert [file.format for file in expand_inputs([tmp_path / "data"], "jsonl")] == ["jsonl"]
    assert [file.format for file in expand_inputs([tmp_path / "data" / "part-00000"], "text")] == ["text"]


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, write: Write) -> None:
    first, second = write("x/a.txt", ""), write("y/a.txt", "")
    assert [file.source for file in expand_inputs([first, second])] == [str(first), str(second)]


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nothing\.jsonl: no such file or folder; expected a corpus file"):
        expand_inputs([tmp_path / "nothing.jsonl"])


def test_a_folder_or_glob_without_corpus_files_says_what_was_expected(tmp_path: Path, write: Write) -> None:
    write("data/README.md", "")
    with pytest.raises(MissingInputError, match=r"data: the folder holds no corpus file \(expected \.jsonl, .*\.gz"):
        expand_inputs([tmp_path / "data"])
    with pytest.raises(MissingInputError, match=r"\*\.txt: the glob matches no corpus file"):
        expand_inputs([f"{tmp_path}/*.txt"])


def test_a_named_file_of_unknown_format_asks_for_the_format(write: Write) -> None:
    with pytest.raises(SettingError, match=r"part-0: the name says no format; pass one of jsonl, text, parquet"):
        expand_inputs([write("part-0", "")])


def test_a_file_named_twice_is_refused(tmp_path: Path, write: Write) -> None:
    path = write("data/a.jsonl", "")
    with pytest.raises(SettingError, match=r"a\.jsonl: is read twice \(also as .*a\.jsonl\); name it once"):
        expand_inputs([tmp_path / "data", path])


def test_an_unknown_format_and_no_input_are_refused() -> None:
    with pytest.raises(SettingError, match=r"format 'csv' is not known; choose auto, jsonl, text, parquet"):
        expand_inputs(["x"], "csv")
    with pytest.raises(SettingError, match="no input given"):
        expand_inputs([])


def test_a_folder_that_cannot_be_listed_is_refused(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("data/a.jsonl", "")
    (tmp_path / "data" / "secret").mkdir(mode=0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    before = os.geteuid()
    if before == 0:  # root may list everything; nobody may not
        os.seteuid(65534)
    try:
        with pytest.raises(StorageError, match=r"^data/secret: cannot be listed: Permission denied\.$"):
            expand_inputs(["data"])
    finally:
        os.seteuid(before)
