"""What is in a dataset, as tables for a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zhgpt.cli.table import print_table

if TYPE_CHECKING:
    from megatron_style_data.manifest import Manifest

_SOURCES_SHOWN = 20


def print_tables(prefix: Path, manifest: "Manifest") -> None:
    """Prints summary, splits and the first sources."""
    from megatron_style_data.inspection import source_rows, split_rows, summary_rows

    typer.echo(f"dataset {prefix}")
    for name, value in summary_rows(manifest):
        typer.echo(f"  {name:<21} {value}")
    print_table(("split", "documents", "tokens", "UTF-8 bytes", "share of tokens"), split_rows(manifest))
    sources = source_rows(manifest)
    print_table(("source", "documents", "tokens", "UTF-8 bytes", "dropped"), sources[:_SOURCES_SHOWN])
    if len(sources) > _SOURCES_SHOWN:
        typer.echo(f"  and {len(sources) - _SOURCES_SHOWN:,} more sources")
