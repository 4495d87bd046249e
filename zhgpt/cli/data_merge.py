"""``zhgpt data merge`` and ``zhgpt data split``: datasets put together or cut anew without their texts."""

from pathlib import Path
from typing import Annotated

import typer

from zhgpt.cli.data_progress import progress
from zhgpt.cli.data_tables import print_tables
from zhgpt.errors import SettingError

_Output = Annotated[Path, typer.Option(help="PREFIX of the new dataset.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace a dataset that is there already.")]


def merge(
    prefixes: Annotated[list[Path], typer.Argument(metavar="PREFIX...", help="The datasets, two or more.")],
    output: _Output,
    force: _Force = False,
) -> None:
    """Put datasets of one tokenizer into one; documents stay in their splits, in the order of the datasets."""
    from megatron_style_data.merge import merge as merge_datasets

    with progress() as tell:
        manifest = merge_datasets(prefixes, output, force=force, report=lambda stage: tell(stage, 0, 0))
    print_tables(output, manifest)


def split(
    prefix: Annotated[Path, typer.Argument(metavar="PREFIX", help="The dataset; it stays as it is.")],
    output: _Output,
    valid_fraction: Annotated[
        float | None, typer.Option(help="Hold out this share of all documents as valid, instead of those now held out.")
    ] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Hold out this share of all documents as test.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which documents are held out.")] = 0,
    documents: Annotated[
        int | None, typer.Option(help="Cut in two: the first so many documents of train go to --output …")
    ] = None,
    rest: Annotated[Path | None, typer.Option(help="… and the others to this PREFIX; both get valid and test.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Where the tokenizer is [default: as recorded].")] = None,
    force: _Force = False,
) -> None:
    """Hold out other documents of a dataset, or cut it in two."""
    from megatron_style_data.recut import RecutSettings, cut_in_two, hold_out_anew

    fractions = valid_fraction is not None or test_fraction is not None
    if fractions == (documents is not None) or (documents is None) != (rest is None):
        raise SettingError(
            "give --valid-fraction and --test-fraction to hold out other documents, or --documents and --rest to cut "
            "the dataset in two."
        )
    settings = RecutSettings(prefix, output, tokenizer, seed, force)
    with progress() as tell:

        def report(stage: str) -> None:
            tell(stage, 0, 0)

        if documents is not None and rest is not None:
            made = dict(zip((output, rest), cut_in_two(settings, documents, rest, report), strict=True))
        else:
            made = {output: hold_out_anew(settings, valid_fraction or 0.0, test_fraction or 0.0, report)}
    for path, manifest in made.items():
        print_tables(path, manifest)
