"""``zhgpt corpus deduplicate``: a corpus without its exact and near-duplicates."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from megatron_style_data.deduplication import Duplicates

_SECONDS_BETWEEN_LINES = 5.0


def deduplicate(
    inputs: Annotated[
        list[str],
        typer.Option("--input", help="A corpus file, folder or glob; with --keep first the better one first."),
    ],
    output: Annotated[
        Path, typer.Option(help="A new folder: data/part-….jsonl.zst, clusters.jsonl, deduplication.json.")
    ],
    threshold: Annotated[
        float, typer.Option(help="Share of common character 5-grams (Jaccard) from which on texts are near-duplicates.")
    ] = 0.8,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Drop only texts that are the same but for punctuation and spaces.")
    ] = False,
    keep: Annotated[
        Literal["longest", "first"], typer.Option(help="Which text of a cluster stays: the longest, or the first read.")
    ] = "longest",
    workers: Annotated[int | None, typer.Option(help="Processes, one a file [default: the cores there are].")] = None,
    text_field: Annotated[
        str | None, typer.Option(help="JSON field or Parquet column of the text [default: what the corpus says].")
    ] = None,
    format: Annotated[str, typer.Option(help="auto, or a format or corpus by name.")] = "auto",
    on_bad: Annotated[
        Literal["skip", "refuse"], typer.Option(help="What to do with invalid UTF-8, lines that are not JSON …")
    ] = "skip",
    work_folder: Annotated[
        Path | None, typer.Option(help="Keep signatures here, so that an interrupted run need not read again.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that is there already.")] = False,
) -> None:
    """Drop texts that are there twice, and write what stays, what went for what, and how much."""
    from megatron_style_data.deduplication import CorpusShard, DuplicateSettings
    from megatron_style_data.deduplication.output import deduplicate as deduplicate_corpus
    from megatron_style_data.readers import ReadOptions, expand_inputs

    settings = DuplicateSettings(near=not exact_only, threshold=threshold, keep=keep)
    options = ReadOptions(text_field=text_field, on_bad=on_bad)
    left_out: list[Path] = []
    shards = [CorpusShard(file, options) for file in expand_inputs(inputs, format, skipped=left_out)]
    found = deduplicate_corpus(
        shards,
        settings,
        output,
        len(os.sched_getaffinity(0)) if workers is None else workers,
        work_folder=work_folder,
        replace=force,
        report=_Teller(),
    )
    if left_out:
        typer.echo(f"left out, as their names say no format: {', '.join(path.name for path in left_out[:4])}")
    _print(output, found)


class _Teller:
    """Prints what is being done when it changes, and every few seconds while it goes on."""

    def __init__(self) -> None:
        self._kind, self._told_at = "", 0.0

    def __call__(self, what: str) -> None:
        kind, now = what.split()[0], time.monotonic()
        if kind != self._kind or now - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._kind, self._told_at = kind, now
            typer.echo(f"{what} …")


def _print(output: Path, found: "Duplicates") -> None:
    counts = found.counts
    for line in found.read.dropped_in_words():
        typer.echo(f"dropped {line}")
    typer.echo(f"{output}: {counts.kept:,} of {counts.documents:,} documents stay")
    typer.echo(f"  {counts.exact:,} exact and {counts.near:,} near-duplicates dropped, in {counts.clusters:,} clusters")
    typer.echo(f"  {counts.compared:,} pairs compared, {counts.read_again:,} of them by their texts")
