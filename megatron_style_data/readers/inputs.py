"""Which files an input means: a file, a folder (everything below it, sorted; of a corpus of ours its data/) or a glob."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from megatron_style_data.errors import MissingInputError, SettingError, StorageError
from megatron_style_data.readers.hugging_face import SCHEME as STREAMED
from megatron_style_data.readers.hugging_face import parse_address
from megatron_style_data.readers.input_file import InputFile
from megatron_style_data.readers.model_scope import SCHEME as DOWNLOADED
from megatron_style_data.readers.model_scope import downloaded_folder
from megatron_style_data.readers.recognition import Recognised, container_or_lines, recognise
from megatron_style_data.readers.registry import reader_name
from megatron_style_data.readers.schemas import SCHEMAS

# Name ending (after a .gz, .zst or .zstd is taken off) to format.
FORMATS_BY_ENDING: Mapping[str, str] = MappingProxyType(
    {
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "jsonl",
        ".txt": "text",
        ".text": "text",
        ".parquet": "parquet",
    }
)
# What says that `zhgpt corpus clean` or `zhgpt corpus deduplicate` wrote a folder, whose data/ is the corpus.
_WRITTEN_HERE = ({"corpus.json", "corpus.html"}, {"deduplication.json", "clusters.jsonl"})
COMPRESSION_ENDINGS = (".gz", ".zst", ".zstd")
# What can be asked for. A corpus's own format holds whatever its records lie in: JSON lines, an array, Parquet.
FORMATS = ("auto", "jsonl", "text", "parquet", "json", "cluecorpus", *SCHEMAS)


def expand_inputs(
    inputs: Sequence[str | Path], format: str = "auto", *, skipped: list[Path] | None = None
) -> list[InputFile]:
    """Finds the files of a corpus, in the order of ``inputs`` and sorted within each.

    Hidden files are left out of folders and globs, and with ``format="auto"`` so are files whose name says no format. Of a folder
    that ``zhgpt corpus clean`` or ``deduplicate`` wrote only ``data/`` is read; a glob is taken literally.

    Args:
        inputs: Files, folders, globs (``*``, ``?``, ``[…]``, ``**``), ``hf://OWNER/NAME?…`` (``hugging_face.py``) and
            ``ms://OWNER/NAME?files=…`` (``model_scope.py``).
        format: ``auto`` (by the file's name, first bytes and first records) or the format of every file, of ``FORMATS``.
        skipped: Receives the files left out because of their name.

    Returns:
        The files. ``format`` of each is a key of ``READERS``, ``why`` says in words what it was taken for.

    Raises:
        MissingInputError: An input that names nothing, or holds no file that can be read.
        SettingError: No input, an unknown format, a named file of unknown format, a file named twice, or a folder that holds an
            unfinished cleaning.
        StorageError: A folder that cannot be listed.
    """
    if format not in FORMATS:
        raise SettingError(f"format {format!r} is not known; choose {', '.join(FORMATS)}.")
    if not inputs:
        raise SettingError("no input given; name a file, a folder or a glob.")
    found: list[InputFile] = []
    for given in map(str, inputs):
        found.extend(_files_of(given, format, [] if skipped is None else skipped))
    _refuse_repeated(found)
    return _with_distinct_sources(found)


def format_of(name: str) -> str | None:
    """The format that a file's name says, or None."""
    plain = name.lower()
    for ending in COMPRESSION_ENDINGS:
        plain = plain.removesuffix(ending)
    return FORMATS_BY_ENDING.get(os.path.splitext(plain)[1])


def _files_of(given: str, format: str, skipped: list[Path]) -> list[InputFile]:
    if given.startswith(STREAMED):
        return [_streamed(given, format)]
    if given.startswith(DOWNLOADED):
        given = str(downloaded_folder(given))
    path = Path(given)
    if path.is_dir():
        below = (Path(root, name) for root, _, names in _walk(path) for name in names)
        files = _readable(((file, file.relative_to(path).as_posix()) for file in below), format, skipped)
        what = "the folder holds"
    elif path.exists():
        found = _reader_of(path, format)
        if found is None:
            raise SettingError(f"{given}: the name says no format; pass one of {', '.join(FORMATS[1:])} as the format.")
        return [InputFile(path, path.name, found.format, why=found.why)]
    elif glob.has_magic(given):
        matches = (Path(match) for match in glob.glob(given, recursive=True))
        files = _readable(((file, file.name) for file in matches if file.is_file()), format, skipped)
        what = "the glob matches"
    else:
        raise MissingInputError(f"{given}: no such file or folder; expected a corpus file, a folder or a glob.")
    if not files:
        raise MissingInputError(
            f"{given}: {what} no corpus file (expected {', '.join(FORMATS_BY_ENDING)}, or .gz/.zst)."
        )
    return files


def _streamed(address: str, format: str) -> InputFile:
    parse_address(address)  # what is wrong with it should be said before anything is read
    if format in SCHEMAS:
        return InputFile(Path(address), address, reader_name("hf", format))
    if format != "auto":
        raise SettingError(f"{address}: is no file of format {format!r}; take auto, or one of {', '.join(SCHEMAS)}.")
    return InputFile(Path(address), address, "hf", why="a stream; its first records decide")


def _reader_of(path: Path, format: str) -> Recognised | None:
    """The reader of a file, and why where it was not asked for; None if neither name nor content say one."""
    if format == "auto":
        return recognise(path, format_of(path.name))
    if format in SCHEMAS:
        return Recognised(reader_name(container_or_lines(path), format), "")
    return Recognised(format, "")


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As ``os.walk``; of an output folder of ours only the documents: samples of what was dropped lie beside them."""

    def refuse(error: OSError) -> None:  # os.walk passes over a folder it may not list
        raise StorageError(f"{error.filename}: cannot be listed: {error.strerror or error}.") from error

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if "unfinished" in folders and "corpus.json" not in names and Path(root, "unfinished", "plan.json").exists():
            raise SettingError(
                f"{root}: holds an unfinished cleaning; let `zhgpt corpus clean` finish it, and then read it."
            )
        if "data" in folders and any(marks <= set(names) for marks in _WRITTEN_HERE):
            folders[:], names = ["data"], []
        yield root, folders, names


def _readable(candidates: Iterable[tuple[Path, str]], format: str, skipped: list[Path]) -> list[InputFile]:
    files = []
    for path, source in sorted(candidates, key=lambda candidate: candidate[0].as_posix()):
        if any(part.startswith(".") for part in Path(source).parts):
            continue
        known = format != "auto" or format_of(path.name) is not None
        found = _reader_of(path, format) if known else None
        if found is None:
            skipped.append(path)
        else:
            files.append(InputFile(path, source, found.format, why=found.why))
    return files


def _refuse_repeated(files: Sequence[InputFile]) -> None:
    seen: dict[Path, Path] = {}
    for file in files:
        real = file.path.resolve()
        if real in seen:
            raise SettingError(f"{file.path}: is read twice (also as {seen[real]}); name it once.")
        seen[real] = file.path


def _with_distinct_sources(files: Sequence[InputFile]) -> list[InputFile]:
    times: dict[str, int] = {}
    for file in files:
        times[file.source] = times.get(file.source, 0) + 1
    return [file if times[file.source] == 1 else replace(file, source=file.path.as_posix()) for file in files]
