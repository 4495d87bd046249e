"""Reads Parquet by row groups: the text in one string column."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from megatron_style_data.errors import BadDataError, MissingInputError, StorageError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.text_fields import choose_text_field

if TYPE_CHECKING:
    import pyarrow.parquet

_ROWS_AT_ONCE = 1024


def read_parquet(bad: BadDocuments) -> Iterator[tuple[int, str]]:
    """Yields (row number from 1, text); one row group is in memory at a time.

    Raises:
        BadDataError: Not a Parquet file, cut off or damaged, no text column, or a bad row is refused.
        MissingInputError: The file does not exist.
        StorageError: It cannot be read.
    """
    import pyarrow  # here, because only Parquet corpora should wait for it to load

    path = bad.file.path
    try:
        with pyarrow.OSFile(str(path)) as handle:
            yield from _rows(handle, bad)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file.") from error
    except (PermissionError, IsADirectoryError) as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (pyarrow.ArrowException, OSError) as error:  # damaged pages come as OSError, damaged footers as ArrowInvalid
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadDataError(f"{path}: is not a whole Parquet file ({first_line}); get the file again.") from error


def _rows(handle: Any, bad: BadDocuments) -> Iterator[tuple[int, str]]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(handle)
    column = _text_column(table, bad)
    row = 0
    for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column], use_threads=False):
        # As bytes, because pyarrow does not check what the file calls a string.
        for scalar in batch.column(0).cast(pyarrow.large_binary()):
            row += 1
            text = _text_of(scalar.as_py(), f"row {row}", column, bad)
            if text is not None:
                yield row, text


def _text_of(content: bytes | None, place: str, column: str, bad: BadDocuments) -> str | None:
    longest = bad.options.max_document_bytes
    if content is None:
        bad.take("no_text", place, f"column {column!r} is null")
        return None
    if len(content) > longest:
        bad.take("too_long", place, f"more than {longest} bytes")
        return None
    return bad.decode(content, place)


def _text_column(table: "pyarrow.parquet.ParquetFile", bad: BadDocuments) -> str:
    from pyarrow import types

    schema = table.schema_arrow
    checks = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    texts = [item.name for item in schema if any(check(item.type) for check in checks)]
    return choose_text_field(str(bad.file.path), schema.names, texts, bad.options.text_field)
