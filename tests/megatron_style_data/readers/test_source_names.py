"""Which files are one source."""

from pathlib import Path

from megatron_style_data.readers import InputFile
from megatron_style_data.readers.source_names import source_names


def test_many_files_become_sources_by_folder() -> None:
    files = [InputFile(Path(f"{folder}/{number}.txt"), f"{folder}/{number}.txt", "text")
             for folder in "ab" for number in range(6)]  # fmt: skip
    assert source_names(files, maximum=12) == [file.source for file in files]
    assert source_names(files, maximum=11) == ["a"] * 6 + ["b"] * 6
    assert source_names(files, maximum=1) == ["."] * 12
