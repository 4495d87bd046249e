"""``zhgpt data``: builds indexed datasets from text, checks them, shows them, takes over those made elsewhere."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhgpt.cli.data_mix import mix
from zhgpt.cli.data_pack import pack
from zhgpt.cli.data_progress import progress
from zhgpt.errors import SettingError

if TYPE_CHECKING:
    from megatron_style_data.build_settings import BuildResult
    from megatron_style_data.manifest import Manifest

_SOURCES_SHOWN = 20
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
    help="Build, verify, inspect and adopt indexed datasets.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(mix)
app.command()(pack)


@app.command()
def build(
    inputs: Annotated[
        list[str], typer.Option("--input", help="A corpus file, folder or glob (JSONL, text, Parquet; .gz, .zst).")
    ],
    tokenizer: Annotated[str, typer.Option(help="A tokenizer's folder, tokenizer.json or .model.")],
    output: Annotated[Path, typer.Option(help="PREFIX: writes PREFIX.bin, PREFIX.idx and PREFIX.meta.json.")],
    workers: Annotated[int | None, typer.Option(help="Encoding processes [default: the cores there are].")] = None,
    valid_fraction: Annotated[float, typer.Option(help="Share of each source's documents held out as valid.")] = 0.01,
    test_fraction: Annotated[float, typer.Option(help="Share of each source's documents held out as test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides which documents are held out.")] = 0,
    text_field: Annotated[
        str | None, typer.Option(help="JSON field or Parquet column of the text [default: text, else content].")
    ] = None,
    format: Annotated[
        Literal["auto", "jsonl", "text", "parquet"], typer.Option(help="Format of the files; auto: by their names.")
    ] = "auto",
    txt_documents: Annotated[
        Literal["file", "blank-line"],
        typer.Option("--txt-documents", "--text-documents", help="What one document of a text file is."),
    ] = "file",
    on_bad: Annotated[
        Literal["skip", "refuse"], typer.Option(help="What to do with invalid UTF-8, lines that are not JSON …")
    ] = "skip",
    dtype: Annotated[
        Literal["auto", "uint16", "int32"], typer.Option(help="Type of the ids; auto: uint16 below 65500 tokens.")
    ] = "auto",
    end_of_text: _EndOfText = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that is there already.")] = False,
) -> None:
    """Tokenise text into an indexed dataset. The same command goes on where an interrupted one stopped."""
    from megatron_style_data.build import build as build_dataset
    from megatron_style_data.build_settings import BuildProgress, BuildSettings
    from megatron_style_data.readers import ReadOptions

    settings = BuildSettings(
        inputs=inputs,
        tokenizer=tokenizer,
        output=output,
        workers=len(os.sched_getaffinity(0)) if workers is None else workers,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
        seed=seed,
        format=format,
        read=ReadOptions(text_field=text_field, on_bad=on_bad, text_documents=txt_documents),
        dtype=dtype,
        end_of_text=end_of_text,
        force=force,
    )
    with progress(about=True) as tell:

        def report(state: BuildProgress) -> None:
            total = state.estimated_bytes if state.stage == "encoding" else 0
            tell(state.stage, state.utf8_bytes, total)

        result = build_dataset(settings, report)
    _print_build(output, result)


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
        _print_tables(prefix, manifest)
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
    _print_tables(prefix, manifest)
    held_out = [f"the last {split.documents:,} as {name}" for name, split in manifest.splits.items() if name != "train"]
    typer.echo(f"held out: {' and '.join(held_out) or 'nothing; all documents are train'}")
    if manifest.documents_without_end_of_text:
        typer.echo(
            f"warning: {manifest.documents_without_end_of_text:,} of {manifest.documents:,} documents do not end with "
            f"{manifest.tokenizer.end_of_text} (first: document {result.first_without_end_of_text}); a model trained on "
            "them does not learn where a text ends. Megatron's preprocess_data.py adds it with --append-eod."
        )


def _print_build(output: Path, result: "BuildResult") -> None:
    if result.resumed_documents:
        typer.echo(f"went on after {result.resumed_documents:,} documents of an interrupted build")
    if result.skipped_files:
        names = [path.name for path in result.skipped_files]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        typer.echo(f"left out, as their names say no format: {', '.join(names[:4])}{more}")
    for line in result.counters.dropped_in_words():
        typer.echo(f"dropped {line}")
    _print_tables(output, result.manifest)


def _print_tables(prefix: Path, manifest: "Manifest") -> None:
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
