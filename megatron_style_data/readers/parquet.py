"""Reads Parquet by row groups, one record a row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from megatron_style_data.errors import BadDataError, MissingInputError, StorageError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.text_fields import TEXT_FIELDS

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_ROWS_AT_ONCE = 256


def row_records(bad: BadDocuments) -> Iterator[tuple[int, dict[str, Any], None]]:
    """Yields (row number from 1, {column: value}, None); one row group is in memory at a time.

    Columns of bytes are left out (pictures, for example), but for the one that holds the text.

    Raises:
        BadDataError: Not a Parquet file, cut off or damaged, or a bad row is refused.
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


def _rows(handle: Any, bad: BadDocuments) -> Iterator[tuple[int, dict[str, Any], None]]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(handle)
    part = bad.file.part
    groups = range(table.num_row_groups) if part is None else range(part.start, part.end)
    row = sum(table.metadata.row_group(group).num_rows for group in range(groups.start))
    columns = _columns(table, bad)
    batches = table.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=list(groups), columns=columns, use_threads=False)
    for batch in batches:
        cells = [_cells(batch.column(name)) for name in columns]
        for values in zip(*cells, strict=True):
            row += 1
            record = _record(dict(zip(columns, values, strict=True)), f"row {row}", bad)
            if record is not None:
                yield row, record, None


def _columns(table: "pyarrow.parquet.ParquetFile", bad: BadDocuments) -> list[str]:
    from pyarrow import types

    schema = table.schema_arrow
    text = bad.options.text_field or next((name for name in TEXT_FIELDS if name in schema.names), None)
    return [
        item.name
        for item in schema
        if item.name == text or not (types.is_binary(item.type) or types.is_large_binary(item.type))
    ]


def _cells(column: "pyarrow.Array") -> list[Any]:
    """The values of a column; strings as bytes, because pyarrow does not check what the file calls a string."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        column = column.cast(pyarrow.large_binary())
    try:
        cells: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # strings in lists and structs: find the rows that are not UTF-8
        cells = [_cell(scalar) for scalar in column]
    return cells


def _cell(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


def _record(row: dict[str, Any], place: str, bad: BadDocuments) -> dict[str, Any] | None:
    """The row with its bytes as text; None if it was bad and counted."""
    longest = bad.options.max_document_bytes
    size = 0
    for name, value in row.items():
        if isinstance(value, bytes):
            size += len(value)
            if size > longest:
                break
            text = bad.decode(value, place)
            if text is None:
                return None
            row[name] = text
        elif isinstance(value, UnicodeDecodeError):
            bad.take("invalid_utf8", place, f"column {name!r}: {value}", bytes(value.object))
            return None
    if size <= longest:
        return row
    bad.take("too_long", place, f"more than {longest} bytes")
    return None
