"""``zhgpt data``: builds indexed datasets from text, checks them, shows them, takes over those made elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zhgpt.cli.data_build import build
from zhgpt.cli.data_merge import merge, split
from zhgpt.cli.data_mix import mix
from zhgpt.cli.data_pack import pack
from zhgpt.cli.data_progress import progress
from zhgpt.cli.data_tables import print_tables
from zhgpt.errors import SettingError

_Prefix = Annotated[
    Path, typer.Argument(metavar="PREFIX", help="The dataset: its path without .bin, .idx, .meta.json.")
]
_EndOfText = Annotated[
    str | None, typer.Option(help="The token that ends a document, where the tokenizer's files do not say.")
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Build, verify, inspect, merge, split, mix, pack and adopt indexed datasets.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (build, merge, split, mix, pack):
    app.command()(_command)


@app.command()
def verify(prefix: _Prefix) -> None:
    """Read a dataset from end to end and check it against its manifest; exit code 65 if anything is wrong."""
    from megatron_style_data.verify import verify as verify_dataset

    with progress() as tell:
        manifest = verify_dataset(prefix, tell)
    typer.echo(
        f"{prefix}: whole; {manifest.documents:,} documents, {manifest.tokens:,} tokens, checksums, index, ids and "
        "document ends are as its manifest says"
    )


@app.command()
def inspect(
    prefix: _Prefix,
    document: Annotated[int | None, typer.Option(help="Print the text of this document, from 0.")] = None,
    split: Annotated[
        Literal["train", "valid", "test"] | None, typer.Option(help="Count documents within this split.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Where the tokenizer is [default: as recorded].")] = None,
) -> None:
    """Show what is in a dataset, or print one of its documents as text."""
    from megatron_style_data.indexed_dataset import IndexedDataset
    from megatron_style_data.inspection import dataset_tokenizer, document_number, document_text
    from megatron_style_data.manifest import load_manifest

    if split is not None and document is None:
        raise SettingError("--split says where documents are counted; name one with --document.")
    manifest = load_manifest(prefix)
    if document is None:
        print_tables(prefix, manifest)
        return
    number = document_number(manifest, document, split)
    loaded = dataset_tokenizer(prefix, manifest, tokenizer)
    typer.echo(document_text(IndexedDataset.open(prefix), loaded, number))


@app.command()
def adopt(
    prefix: Annotated[Path, typer.Argument(metavar="PREFIX", help="PREFIX of the .bin and .idx files.")],
    tokenizer: Annotated[str, typer.Option(help="The tokenizer they were made with.")],
    valid_fraction: Annotated[
        float, typer.Option(help="Share of the documents, the last ones, held out as valid.")
    ] = 0.0,
    test_fraction: Annotated[float, typer.Option(help="Share, the very last ones, held out as test.")] = 0.0,
    end_of_text: _EndOfText = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a manifest that is there already.")] = False,
) -> None:
    """Take over .bin/.idx files of Megatron or GPT-NeoX: check them and write the manifest they lack."""
    from megatron_style_data.adopt import AdoptSettings
    from megatron_style_data.adopt import adopt as adopt_dataset

    settings = AdoptSettings(prefix, tokenizer, end_of_text, valid_fraction, test_fraction, force)
    with progress("tokens") as tell:
        result = adopt_dataset(settings, lambda done, total: tell("decoding", done, total))
    manifest = result.manifest
    print_tables(prefix, manifest)
    held_out = [f"the last {split.documents:,} as {name}" for name, split in manifest.splits.items() if name != "train"]
    typer.echo(f"held out: {' and '.join(held_out) or 'nothing; all documents are train'}")
    if manifest.documents_without_end_of_text:
        typer.echo(
            f"warning: {manifest.documents_without_end_of_text:,} of {manifest.documents:,} documents do not end with "
            f"{manifest.tokenizer.end_of_text} (first: document {result.first_without_end_of_text}); a model trained on "
            "them does not learn where a text ends. Megatron's preprocess_data.py adds it with --append-eod."
        )
