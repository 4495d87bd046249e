"""``zhgpt corpus read``: the documents of corpora in their own formats, as plain JSON lines for a person or a pipe."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from megatron_style_data.document import Document
    from megatron_style_data.readers import InputFile, ReadCounters

_CHANGES_SHOWN = 6


def read(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files, folders, globs, hf://OWNER/NAME?…, ms://OWNER/NAME?files=…"),
    ],
    format: Annotated[
        str, typer.Option(help="auto (by name, first bytes and first records), or a format or corpus by name.")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many documents.")] = None,
    text_field: Annotated[
        str | None, typer.Option(help="JSON field or Parquet column of the text [default: what the corpus says].")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out documents whose score is lower.")] = None,
    skip_repeated_paragraphs: Annotated[
        bool, typer.Option("--skip-repeated-paragraphs", help="Leave out paragraphs that MNBVC marks as repeated.")
    ] = False,
    txt_documents: Annotated[
        Literal["file", "blank-line"], typer.Option(help="What one document of a text file is.")
    ] = "file",
    encoding: Annotated[
        Literal["utf-8", "gb18030", "auto"], typer.Option(help="Encoding of text and JSON; auto judges each file.")
    ] = "utf-8",
    on_bad: Annotated[
        Literal["skip", "refuse"], typer.Option(help="What to do with invalid UTF-8, lines that are not JSON …")
    ] = "skip",
    quarantine: Annotated[
        Path | None, typer.Option(help="A new JSON lines file for what is bad, with reason, place and bytes.")
    ] = None,
    max_bad: Annotated[int | None, typer.Option(help="Stop with exit code 65 at more bad documents.")] = None,
    max_document_bytes: Annotated[
        int | None, typer.Option(help="Longest document; a longer one is bad [default: 64 MiB].")
    ] = None,
) -> None:
    """Print documents as JSON lines {"text", "source", …} on stdout; formats and counts on stderr."""
    from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_corpus, start_quarantine
    from megatron_style_data.readers.options import MAX_DOCUMENT_BYTES

    options = ReadOptions(
        text_field=text_field,
        on_bad=on_bad,
        text_documents=txt_documents,
        max_document_bytes=MAX_DOCUMENT_BYTES if max_document_bytes is None else max_document_bytes,
        encoding=encoding,
        min_score=min_score,
        skip_repeated_paragraphs=skip_repeated_paragraphs,
        max_bad=max_bad,
    )
    left_out: list[Path] = []
    inputs = expand_inputs(files, format, skipped=left_out)
    _tell_formats(inputs, left_out)
    if quarantine is not None:
        start_quarantine(quarantine)
    counters = ReadCounters(quarantine=quarantine)
    whole = _print_documents(islice(read_corpus(inputs, options, counters), limit))
    if whole:
        _tell_counts(counters, quarantine)


def _print_documents(documents: "Iterable[Document]") -> bool:
    """Prints them; False if the reader of the pipe has gone, which is no error."""
    out = sys.stdout.buffer
    try:
        for document in documents:
            record = {"text": document.text, "source": document.source, **document.fields}
            out.write(json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n")
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held must not fail at the exit
        return False
    return True


def _tell_formats(inputs: "Sequence[InputFile]", left_out: list[Path]) -> None:
    groups = Counter((file.format, file.why) for file in inputs)
    first = {(file.format, file.why): file.source for file in reversed(inputs)}
    for (format, why), number in groups.items():
        name = first[format, why] if number == 1 else f"{number} files, first {first[format, why]}"
        typer.echo(f"{name}: {format} ({why or 'as asked'})", err=True)
    if left_out:
        names = ", ".join(path.name for path in left_out[:4]) + (" …" if len(left_out) > 4 else "")
        typer.echo(f"left out, as their names say no format: {names}", err=True)


def _tell_counts(counters: "ReadCounters", quarantine: Path | None) -> None:
    for note in counters.notes:
        typer.echo(note, err=True)
    typer.echo(f"{counters.documents:,} documents, {counters.utf8_bytes:,} bytes of UTF-8", err=True)
    if counters.changes:
        changed = [f"{name} {count:,}" for name, count in sorted(counters.changes.items())][:_CHANGES_SHOWN]
        typer.echo(f"normalised: {', '.join(changed)}", err=True)
    for line in counters.dropped_in_words():
        typer.echo(f"dropped {line}", err=True)
    if quarantine is not None:
        typer.echo(f"{counters.bad:,} bad documents in {quarantine}", err=True)
