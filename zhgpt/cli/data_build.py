"""``zhgpt data build``: text into an indexed dataset, on one machine or as shares of several."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhgpt.cli.data_progress import Tell, progress
from zhgpt.cli.data_tables import print_tables
from zhgpt.errors import SettingError

if TYPE_CHECKING:
    from megatron_style_data.build_settings import BuildResult, BuildSettings, Report


def build(
    inputs: Annotated[
        list[str], typer.Option("--input", help="A corpus file, folder or glob (JSONL, text, Parquet; .gz, .zst).")
    ],
    tokenizer: Annotated[str, typer.Option(help="A tokenizer's folder, tokenizer.json or .model.")],
    output: Annotated[Path, typer.Option(help="PREFIX: writes PREFIX.bin, PREFIX.idx and PREFIX.meta.json.")],
    workers: Annotated[
        int | None, typer.Option(help="Encoding processes [default: the cores there are; with --mpi 1 a rank].")
    ] = None,
    valid_fraction: Annotated[float, typer.Option(help="Share of each source's documents held out as valid.")] = 0.01,
    test_fraction: Annotated[float, typer.Option(help="Share of each source's documents held out as test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides which documents are held out, and how they are shuffled.")] = 0,
    shuffle_documents: Annotated[
        bool, typer.Option("--shuffle-documents", help="Put the documents of each split into a random order.")
    ] = False,
    text_field: Annotated[
        str | None, typer.Option(help="JSON field or Parquet column of the text [default: what the corpus says].")
    ] = None,
    format: Annotated[
        str, typer.Option(help="auto (by name, first bytes and first records), or a format or corpus by name.")
    ] = "auto",
    txt_documents: Annotated[
        Literal["file", "blank-line"],
        typer.Option("--txt-documents", "--text-documents", help="What one document of a text file is."),
    ] = "file",
    encoding: Annotated[
        Literal["utf-8", "gb18030", "auto"], typer.Option(help="Encoding of text and JSON; auto judges each file.")
    ] = "utf-8",
    min_score: Annotated[float | None, typer.Option(help="Leave out documents whose score is lower.")] = None,
    on_bad: Annotated[
        Literal["skip", "refuse"], typer.Option(help="What to do with invalid UTF-8, lines that are not JSON …")
    ] = "skip",
    max_bad: Annotated[int | None, typer.Option(help="Stop with exit code 65 at more bad documents.")] = None,
    dtype: Annotated[
        Literal["auto", "uint16", "int32"], typer.Option(help="Type of the ids; auto: uint16 below 65500 tokens.")
    ] = "auto",
    end_of_text: Annotated[
        str | None, typer.Option(help="The token that ends a document, where the tokenizer's files do not say.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(metavar="K/N", help="Encode only share K of N, for --assemble to put together.")
    ] = None,
    assemble: Annotated[
        bool, typer.Option("--assemble", help="Put the shares together; nothing is encoded any more.")
    ] = False,
    mpi: Annotated[
        bool, typer.Option("--mpi", help="Run under mpiexec: the ranks encode, rank 0 puts together.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that is there already.")] = False,
) -> None:
    """Tokenise text into an indexed dataset. The same command goes on where an interrupted one stopped."""
    from megatron_style_data.build_settings import BuildSettings
    from megatron_style_data.readers import ReadOptions

    if sum((share is not None, assemble, mpi)) > 1:
        raise SettingError("--share, --assemble and --mpi exclude one another; give one of them.")
    settings = BuildSettings(
        inputs=inputs,
        tokenizer=tokenizer,
        output=output,
        workers=(1 if mpi else len(os.sched_getaffinity(0))) if workers is None else workers,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
        seed=seed,
        shuffle_documents=shuffle_documents,
        format=format,
        read=ReadOptions(
            text_field=text_field,
            on_bad=on_bad,
            text_documents=txt_documents,
            encoding=encoding,
            min_score=min_score,
            max_bad=max_bad,
        ),
        dtype=dtype,
        end_of_text=end_of_text,
        force=force,
    )
    with progress(about=True) as tell:
        result = _run(settings, share, assemble, mpi, _reporter(tell))
    if result is not None:
        _print_build(output, result)


def _run(
    settings: "BuildSettings", share: str | None, assemble: bool, mpi: bool, report: "Report"
) -> "BuildResult | None":
    """Builds all of it or what was asked for; None where there is no dataset yet, or another rank has it."""
    from megatron_style_data import build

    if mpi:
        from megatron_style_data.build_mpi import build_under_mpi

        return build_under_mpi(settings, report)
    if assemble:
        return build.assemble(settings, report)
    if share is None:
        return build.build(settings, report)
    number, shares = _parse_share(share)
    documents = build.build_share(settings, number, shares, report)
    typer.echo(f"share {number} of {shares}: {documents:,} documents; when all are done, run this with --assemble")
    return None


def _parse_share(share: str) -> tuple[int, int]:
    number, slash, shares = share.partition("/")
    if not (slash and number.isdecimal() and shares.isdecimal()):
        raise SettingError(f"--share {share}: expected K/N, such as 1/3.")
    return int(number), int(shares)


def _reporter(tell: Tell) -> "Report":
    """Shows progress without what was done before, so that speed and time left are those of this build."""
    from megatron_style_data.build_settings import BuildProgress

    said: list[str] = []

    def report(state: BuildProgress) -> None:
        if state.encoder and not said:
            said.append(state.encoder)
            typer.echo(f"encoder: {state.encoder}")
        left = max(0, state.estimated_bytes - state.resumed_bytes) if state.stage == "encoding" else 0
        tell(state.stage, state.utf8_bytes - state.resumed_bytes, left)

    return report


def _print_build(output: Path, result: "BuildResult") -> None:
    if result.resumed_documents:
        typer.echo(f"went on after {result.resumed_documents:,} documents of an interrupted build")
    if result.skipped_files:
        names = [path.name for path in result.skipped_files]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        typer.echo(f"left out, as their names say no format: {', '.join(names[:4])}{more}")
    for line in result.counters.dropped_in_words():
        typer.echo(f"dropped {line}")
    print_tables(output, result.manifest)
