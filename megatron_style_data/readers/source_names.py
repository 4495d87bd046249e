"""The sources of a corpus: which of its files are counted together."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from megatron_style_data.readers.input_file import InputFile

# With more files than this their folders are the sources: manifests and tables stay small.
MAXIMUM_SOURCES = 1000


def source_names(files: Sequence[InputFile], maximum: int = MAXIMUM_SOURCES) -> list[str]:
    """The source of each file: its own name, or a folder above it where there would be too many sources."""
    names = [file.source for file in files]
    while len(set(names)) > maximum:
        names = [str(PurePosixPath(name).parent) for name in names]
    return names
