"""What is in a dataset, as tables for a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from megatron_style_data.manifest import Manifest

_SOURCES_SHOWN = 20


def print_tables(prefix: Path, manifest: "Manifest") -> None:
    """Prints summary, splits and the first sources."""
    from megatron_style_data.inspection import source_rows, split_rows, summary_rows

    typer.echo(f"dataset {prefix}")
    for name, value in summary_rows(manifest):
        typer.echo(f"  {name:<21} {value}")
    _print_table(("split", "documents", "tokens", "UTF-8 bytes", "share of tokens"), split_rows(manifest))
    sources = source_rows(manifest)
    _print_table(("source", "documents", "tokens", "UTF-8 bytes", "dropped"), sources[:_SOURCES_SHOWN])
    if len(sources) > _SOURCES_SHOWN:
        typer.echo(f"  and {len(sources) - _SOURCES_SHOWN:,} more sources")


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.cells import cell_len

    widths = [max(cell_len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        first, *numbers = (
            cell + pad if column == 0 else pad + cell
            for column, cell in enumerate(row)
            for pad in [" " * (widths[column] - cell_len(cell))]
        )
        typer.echo(f"  {first}  {'  '.join(numbers)}")
