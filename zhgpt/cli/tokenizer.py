"""``zhgpt tokenizer``: trains a tokenizer and shows what one does to a text."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from megatron_style_data.normalize import normalize
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.tokenizer import TextFit, Tokenizer, load_tokenizer, measure_fit, train_tokenizer
from megatron_style_data.tokenizer.pieces import readable_token
from megatron_style_data.tokenizer.progress import Progress
from megatron_style_data.tokenizer.sample import DEFAULT_SAMPLE_BYTES, DEFAULT_SCAN_BYTES, TextSample, sample_corpus
from megatron_style_data.tokenizer.training import check_choice, check_output
from megatron_style_data.tokenizer.training_memory import free_memory, training_memory
from zhgpt.cli.tokenizer_compare import advise, compare
from zhgpt.config.quantities import duration_text, share_text

_SECONDS_BETWEEN_LINES = 5.0
_MOST_SOURCES_SHOWN = 20

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Train a tokenizer and look at what it does.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(compare)
app.command()(advise)


@app.command()
def train(
    inputs: Annotated[
        list[str], typer.Option("--input", help="A corpus file, folder or glob (JSONL, text, Parquet; .gz, .zst).")
    ],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    vocab_size: Annotated[int, typer.Option(help="Tokens, with the 256 bytes and the special ones.")] = 32_000,
    kind: Annotated[
        Literal["bpe", "sentencepiece", "sentencepiece-unigram"],
        typer.Option(help="Byte-level BPE, or sentencepiece's BPE or unigram."),
    ] = "bpe",
    trainer: Annotated[
        Literal["auto", "numba", "hf"],
        typer.Option(help="Of bpe, all with the same result: ours, HF's, or the faster one for so much text."),
    ] = "auto",
    sample_bytes: Annotated[
        int, typer.Option(help="Most text to train on, in UTF-8 bytes; each source gives its share.")
    ] = DEFAULT_SAMPLE_BYTES,
    scan_bytes: Annotated[
        int, typer.Option(help="Most text to read for it; of a larger corpus, the beginning of each file.")
    ] = DEFAULT_SCAN_BYTES,
    text_field: Annotated[
        str | None, typer.Option(help="JSON field or Parquet column of the text [default: what the corpus says].")
    ] = None,
    format: Annotated[
        str, typer.Option(help="auto (by name, first bytes and first records), or a format or corpus by name.")
    ] = "auto",
    text_documents: Annotated[
        Literal["file", "blank-line"], typer.Option(help="What one document of a text file is.")
    ] = "file",
    on_bad: Annotated[
        Literal["skip", "refuse"], typer.Option(help="What to do with invalid UTF-8, lines that are not JSON …")
    ] = "skip",
    force: Annotated[bool, typer.Option("--force", help="Replace a tokenizer that is there already.")] = False,
) -> None:
    """Train a tokenizer on a corpus and write a folder that transformers' AutoTokenizer loads."""
    check_choice(kind, trainer, vocab_size)
    check_output(output, replace=force)
    options = ReadOptions(text_field=text_field, on_bad=on_bad, text_documents=text_documents)
    left_out: list[Path] = []
    files = expand_inputs(inputs, format, skipped=left_out)
    _print_inputs(files, left_out)
    counters = ReadCounters()
    sample = sample_corpus(
        files, options, counters, sample_bytes=sample_bytes, scan_bytes=scan_bytes, on_progress=_reading_lines()
    )
    _print_sample(sample, counters)
    _print_needs(kind, trainer, vocab_size, sample.utf8_bytes)
    started = time.monotonic()
    tokenizer = train_tokenizer(
        kind, sample.texts, vocab_size, output, replace=force, trainer=trainer, on_progress=_training_lines()
    )
    typer.echo(
        f"trained in {time.monotonic() - started:.0f} s; every byte, the special tokens and the sample came back"
    )
    _print_tokenizer(output, tokenizer, vocab_size, measure_fit(tokenizer, sample.texts))


@app.command()
def show(
    text: Annotated[str, typer.Argument(help="The text.")],
    tokenizer: Annotated[Path, typer.Option(help="A tokenizer's folder, tokenizer.json or .model.")],
    end_of_text: Annotated[
        str | None, typer.Option(help="The token that ends a document, where the files do not say.")
    ] = None,
) -> None:
    """Show how a text is cut into tokens."""
    loaded = load_tokenizer(tokenizer, end_of_text=end_of_text)
    normalized = normalize(text).text
    ids = loaded.encode_batch([normalized])[0]
    width = len(str(loaded.vocab_size - 1))
    for number in ids:
        typer.echo(f"{number:>{width}}  {readable_token(loaded, number)}")
    size = len(normalized.encode("utf-8"))
    each = f", {len(normalized) / len(ids):.2f} characters a token" if ids else ""
    typer.echo(f"{len(ids)} tokens for {len(normalized)} characters, {size} bytes{each}")
    back = loaded.decode(ids)
    typer.echo("decoded: the same text" if back == normalized else f"decoded: another text, {back!r}")
    typer.echo(f"{tokenizer}: {loaded.kind}, {loaded.vocab_size:,} tokens, end of text {loaded.end_of_text_id}")


def _print_inputs(files: list[InputFile], left_out: list[Path]) -> None:
    typer.echo(f"reading {len(files)} file{'s' if len(files) > 1 else ''}: {_some([file.source for file in files])}")
    if left_out:
        typer.echo(f"left out, as their names say no format: {_some([path.name for path in left_out])}")


def _print_sample(sample: TextSample, counters: ReadCounters) -> None:
    whole = "all of it" if sample.utf8_bytes == sample.read_bytes else "a sample of it, with each source's share"
    typer.echo(
        f"read {sample.read_documents:,} documents, {_megabytes(sample.read_bytes)}; "
        f"{_megabytes(sample.utf8_bytes)} for training ({whole})"
    )
    for line in counters.dropped_in_words():
        typer.echo(f"dropped {line}")
    if 1 < len(sample.sources) <= _MOST_SOURCES_SHOWN and sample.utf8_bytes < sample.read_bytes:
        for source, (read, kept) in sample.sources.items():
            typer.echo(
                f"  {source}: {share_text(read / sample.read_bytes)} of the text, "
                f"{share_text(kept / sample.utf8_bytes)} of the sample"
            )


def _print_needs(kind: str, trainer: str, vocab_size: int, utf8_bytes: int) -> None:
    needed, free = training_memory(kind, trainer, utf8_bytes), free_memory()
    typer.echo(
        f"training {kind}, {vocab_size:,} tokens, on {_megabytes(utf8_bytes)} …; needs about {needed / 1e9:.1f} GB "
        f"of memory{'' if free is None else f', {free / 1e9:.1f} GB are free'}"
    )
    if free is not None and needed > free:
        typer.echo("warning: that may be too much for this machine; a smaller --sample-bytes takes less")


def _print_tokenizer(output: Path, tokenizer: Tokenizer, asked: int, fit: TextFit) -> None:
    fewer = "" if tokenizer.vocab_size == asked else f" (of {asked:,}: the text has no more to merge)"
    rows = (
        ("tokenizer", str(output)),
        ("vocabulary", f"{tokenizer.vocab_size:,} tokens{fewer}"),
        ("end of text", f"{tokenizer.end_of_text} = {tokenizer.end_of_text_id}"),
        ("fingerprint", tokenizer.fingerprint),
        ("fit", f"{fit.characters_per_token:.2f} characters, {fit.bytes_per_token:.2f} bytes a token on the sample"),
        ("characters", f"{fit.frequent_in_one_token:,} of the {fit.frequent:,} most frequent are one token"),
        ("words", f"{fit.pairs_in_one_token:,} of the {fit.pairs:,} most frequent pairs of characters are one token"),
    )
    for name, value in rows:
        typer.echo(f"{name:<12} {value}")


def _reading_lines() -> Callable[[int], None]:
    """Progress of the reading: one line every few seconds, on a terminal and in a log file alike."""
    started = printed = time.monotonic()

    def on_progress(utf8_bytes: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= _SECONDS_BETWEEN_LINES:
            printed = now
            typer.echo(f"  {_megabytes(utf8_bytes)} read, {_megabytes(int(utf8_bytes / (now - started)))} a second")

    return on_progress


def _training_lines() -> Progress:
    """Progress of the training: one line every few seconds, with about how long it still takes where that is known."""
    started = printed = time.monotonic()

    def on_progress(what: str, share: float | None) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= _SECONDS_BETWEEN_LINES:
            printed = now
            if share is None:
                typer.echo(f"  {what}: {duration_text(now - started)} so far")
                return
            left = f", about {duration_text((now - started) * (1 - share) / share)} left" if share > 0.05 else ""
            typer.echo(f"  {what}: about {share:.0%} of the training done{left}")

    return on_progress


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _megabytes(utf8_bytes: int) -> str:
    return f"{utf8_bytes / 1e6:,.1f} MB"
