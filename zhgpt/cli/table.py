"""Tables on a terminal: the first column to the left, numbers to the right, Chinese counted as wide as it is."""

from collections.abc import Sequence

import typer


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, indented by two blanks.

    Args:
        head: names of the columns.
        rows: as many cells each.
    """
    from rich.cells import cell_len

    widths = [max(cell_len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        pads = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        numbers = [pad + cell for pad, cell in zip(pads[1:], row[1:], strict=True)]
        typer.echo(f"  {row[0]}{pads[0]}  {'  '.join(numbers)}")
