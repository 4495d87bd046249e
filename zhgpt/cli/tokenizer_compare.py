"""``zhgpt tokenizer compare`` and ``advise``: which tokenizer, and how large a vocabulary for a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from megatron_style_data.tokenizer.comparison import TokenizerFit
    from zhgpt.cli.tokenizer_trial import TrialSettings
    from zhgpt.config.schema import RunConfig

_DOMAIN_BYTES = 2_000_000
_SIZES = (4000, 8000, 16000, 24000, 32000, 48000, 64000, 96000, 128000)
# Rule of thumb, not a measurement: above it the embedding starves the rest of a small model.
_LARGEST_EMBEDDING_SHARE = 0.4

Texts = Annotated[list[str], typer.Option("--text", help="A corpus file, folder or glob to measure on; repeatable.")]
By = Annotated[str | None, typer.Option(help="Field of the records that names their domain [default: the file].")]
DomainBytes = Annotated[int, typer.Option(help="Most text of a domain, in UTF-8 bytes; drawn evenly.")]
TextField = Annotated[str | None, typer.Option(help="JSON field or Parquet column of the text.")]
Config = Annotated[Path | None, typer.Option(help="A run's YAML file, for the model's size.")]
HiddenSize = Annotated[int | None, typer.Option(help="Width of the model, instead of --config.")]
Layers = Annotated[int | None, typer.Option(help="Layers of the model, instead of --config.")]


def compare(
    tokenizers: Annotated[
        list[Path], typer.Argument(metavar="TOKENIZER...", help="Folders, tokenizer.json or .model files.")
    ],
    text: Texts,
    by: By = None,
    domain_bytes: DomainBytes = _DOMAIN_BYTES,
    text_field: TextField = None,
    config: Config = None,
    hidden_size: HiddenSize = None,
    layers: Layers = None,
    end_of_text: Annotated[
        str | None, typer.Option(help="The token that ends a document, where the files do not say.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture to write: .png or .svg.")] = None,
    train_steps: Annotated[
        int | None,
        typer.Option(
            help="Also train a model with each, for so many steps with the first and on equal bytes of text with the others: "
            "the one of --config or --hidden-size and --layers, else the demo's.",
        ),
    ] = None,
) -> None:
    """Compare tokenizers on the same texts."""
    from megatron_style_data.tokenizer import load_tokenizer
    from megatron_style_data.tokenizer.comparison import fit_of

    _check_options(plot, train_steps)
    model = _model(config, hidden_size, layers)
    texts = _texts(text, by, domain_bytes, text_field)
    names = _names(tokenizers)
    fits = [
        fit_of(name, load_tokenizer(path, end_of_text=end_of_text), texts)
        for name, path in zip(names, tokenizers, strict=True)
    ]
    _print_fits(fits, model)
    if train_steps is not None:
        from zhgpt.cli.tokenizer_trial import TrialSettings

        shape = _shape_overrides(hidden_size, layers)
        settings = TrialSettings(text, text_field, end_of_text, config, shape, train_steps)
        _print_trials(dict(zip(names, tokenizers, strict=True)), settings)
    if plot is not None:
        from megatron_style_data.atomic import atomic_write_bytes
        from zhgpt.report.tokenizer_plot import render_comparison

        atomic_write_bytes(plot, render_comparison(fits, plot.suffix[1:]))
        typer.echo(f"wrote {plot}")


def advise(
    tokenizer: Annotated[Path, typer.Option(help="A large tokenizer of `train --kind bpe`; smaller ones are cut out.")],
    text: Texts,
    config: Config = None,
    hidden_size: HiddenSize = None,
    layers: Layers = None,
    domain_bytes: DomainBytes = _DOMAIN_BYTES,
    text_field: TextField = None,
) -> None:
    """Advise on the size of the vocabulary for a model, from what each size does to these texts."""
    from megatron_style_data.errors import SettingError
    from megatron_style_data.tokenizer import load_tokenizer
    from megatron_style_data.tokenizer.shortened import shortened
    from zhgpt.config.model_shape import resolve_model
    from zhgpt.config.quantities import count_text, share_text
    from zhgpt.model.shape import count_parameters, flops_per_token

    model = _model(config, hidden_size, layers)
    if model is None:
        raise SettingError("the advice is for a model: give --config FILE, or --hidden-size and --layers.")
    largest = load_tokenizer(tokenizer).vocab_size
    texts = [one for some in _texts(text, None, domain_bytes, text_field).values() for one in some]
    characters = sum(map(len, texts))
    rows = []
    for size in sorted({*(size for size in _SIZES if size < largest), largest}):
        section = resolve_model(model, size)
        count = count_parameters(section)
        rate = characters / sum(map(len, shortened(tokenizer, size).encode_batch(texts)))
        share = count.embedding / count.total
        rows.append((size, rate, count.total, share, flops_per_token(section, model.data.sequence_length) / rate))
    allowed = [row for row in rows if row[3] <= _LARGEST_EMBEDDING_SHARE] or rows[:1]
    best = min(allowed, key=lambda row: row[4])
    table: list[Sequence[str]] = [
        ("vocabulary", "characters a token", "parameters", "embedding", "FLOPs a character", "")
    ]
    for row in rows:
        size, rate, total, share, flops = row
        mark = "<- advised" if row is best else ""
        table.append((f"{size:,}", f"{rate:.3f}", count_text(total), share_text(share), count_text(flops), mark))
    _print_table("", table)
    typer.echo(
        f"advised: {best[0]:,} tokens, the fewest training FLOPs a character of this text with the embedding at most "
        f"{share_text(_LARGEST_EMBEDDING_SHARE)} of the parameters (a rule of thumb). Characters a token are measured on "
        f"{characters:,} characters; parameters and FLOPs are computed."
    )


def _check_options(plot: Path | None, train_steps: int | None) -> None:
    from megatron_style_data.errors import SettingError

    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise SettingError(f"--plot {plot}: expected a name that ends in .png or .svg.")
    if train_steps is not None and train_steps < 1:
        raise SettingError(f"--train-steps {train_steps}: expected at least 1.")


def _texts(inputs: list[str], by: str | None, domain_bytes: int, text_field: str | None) -> dict[str, list[str]]:
    from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs
    from megatron_style_data.tokenizer.domains import texts_by_domain

    counters = ReadCounters()
    options = ReadOptions(text_field=text_field)
    texts = texts_by_domain(expand_inputs(inputs), options, counters, domain_bytes=domain_bytes, field=by)
    for line in counters.dropped_in_words():
        typer.echo(f"dropped {line}")
    for domain, some in texts.items():
        size = sum(len(one.encode("utf-8")) for one in some)
        typer.echo(f"{domain}: {sum(map(len, some)):,} characters, {size / 1e6:.2f} MB")
    return texts


def _model(config: Path | None, hidden_size: int | None, layers: int | None) -> "RunConfig | None":
    from megatron_style_data.errors import SettingError
    from zhgpt.config.loading import Origins, load_run_config, validate_run_config

    if config is not None:
        if hidden_size is not None or layers is not None:
            raise SettingError("--config says the model's size; leave out --hidden-size and --layers.")
        read = load_run_config(config)
        return read.model_copy(update={"model": read.model.model_copy(update={"vocab_size": None})})
    if hidden_size is None and layers is None:
        return None
    if hidden_size is None or layers is None:
        raise SettingError("a model's size is --hidden-size and --layers together, or --config FILE.")
    heads = max(1, hidden_size // 64)
    shape = {"hidden_size": hidden_size, "num_hidden_layers": layers, "num_attention_heads": heads}
    rest: Mapping[str, Any] = {"steps": 1, "global_batch_size": 1, "micro_batch_size": 1}
    values = {"data": {"train": "none"}, "train": rest, "model": shape}
    return validate_run_config(values, Origins("--hidden-size and --layers", {}))


def _shape_overrides(hidden_size: int | None, layers: int | None) -> tuple[str, ...]:
    """The size that was asked for, as `_model` has it, for a recipe."""
    if hidden_size is None:
        return ()
    heads = max(1, hidden_size // 64)
    return (
        f"model.hidden_size={hidden_size}",
        f"model.num_hidden_layers={layers}",
        f"model.num_attention_heads={heads}",
        f"model.num_key_value_heads={heads}",
    )


def _print_fits(fits: "Sequence[TokenizerFit]", model: "RunConfig | None") -> None:
    _print_table("characters a token", _by_domain(fits, "characters_per_token", "{:.3f}"))
    _print_table("bytes a token", _by_domain(fits, "bytes_per_token", "{:.2f}"))
    _print_table("Han characters cut across tokens", _split_rows(fits))
    _print_table("", _vocabulary_rows(fits, model))


def _print_trials(tokenizers: Mapping[str, Path], settings: "TrialSettings") -> None:
    from zhgpt.cli.tokenizer_trial import trials

    found = dict(trials(tokenizers, settings, typer.echo))
    rows: list[Sequence[str]] = [("tokenizer", *found)]
    rows.append(("steps", *(f"{trial.steps:,}" for trial in found.values())))
    rows.append(("text trained on, MB", *(f"{trial.utf8_bytes / 1e6:.2f}" for trial in found.values())))
    rows.append(("epochs", *(f"{trial.epochs:.2f}" for trial in found.values())))
    rows.append(("held-out bits per byte", *(f"{trial.bits_per_byte:.4f}" for trial in found.values())))
    _print_table("trained on equal bytes of text", rows)
    typer.echo("lower is better; one run each, so small differences may be chance")


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names that differ: the folder or file, with its parent where two are called the same."""
    names = [path.resolve().parent.name if path.name == "tokenizer.json" else path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def _by_domain(fits: "Sequence[TokenizerFit]", what: str, form: str) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("domain", *(fit.name for fit in fits))]
    for domain in fits[0].domains:
        rows.append((domain, *(form.format(getattr(fit.domains[domain], what)) for fit in fits)))
    return rows


def _split_rows(fits: "Sequence[TokenizerFit]") -> list[Sequence[str]]:
    from zhgpt.config.quantities import share_text

    rows: list[Sequence[str]] = [("domain", *(fit.name for fit in fits))]
    for domain in fits[0].domains:
        shares = []
        for fit in fits:
            found = fit.domains[domain]
            told = found.split_han is not None and found.han > 0
            shares.append(share_text((found.split_han or 0) / found.han) if told else "-")
        rows.append((domain, *shares))
    return rows


def _vocabulary_rows(fits: "Sequence[TokenizerFit]", model: "RunConfig | None") -> list[Sequence[str]]:
    from zhgpt.config.quantities import share_text

    rows: list[Sequence[str]] = [("tokenizer", *(fit.name for fit in fits))]
    rows.append(("vocabulary", *(f"{fit.vocab_size:,}" for fit in fits)))
    for what, sets in fits[0].characters.items():
        cells = [
            f"{one.in_one_token:,}, {one.tokens_per_character:.2f}" for one in (fit.characters[what] for fit in fits)
        ]
        rows.append((f"{what} characters ({sets.characters:,}): one token, tokens each", *cells))
    rows.append(("20260815", *(fit.number for fit in fits)))
    rows.append(("simplified, characters a token", *(f"{fit.scripts[0]:.3f}" for fit in fits)))
    rows.append(("the same text in traditional", *(f"{fit.scripts[1]:.3f}" for fit in fits)))
    rows.append(("encoding, MB a CPU-second", *(f"{fit.megabytes_per_cpu_second:.2f}" for fit in fits)))
    if model is not None:
        from zhgpt.config.model_shape import resolve_model
        from zhgpt.model.shape import count_parameters

        counts = [count_parameters(resolve_model(model, fit.vocab_size)) for fit in fits]
        rows.append(("embedding's share of the model", *(share_text(one.embedding / one.total) for one in counts)))
    return rows


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest entry, where a Chinese character takes two places."""
    widths = [max(_places(row[column]) for row in rows) for column in range(len(rows[0]))]
    typer.echo(f"\n{title}" if title else "")
    for row in rows:
        first = row[0] + " " * (widths[0] - _places(row[0]))
        cells = [" " * (width - _places(cell)) + cell for cell, width in zip(row[1:], widths[1:], strict=True)]
        typer.echo("  ".join((first, *cells)).rstrip())


def _places(text: str) -> int:
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
