"""``zhgpt data mix``: what a blend takes from each source, in tokens and epochs, before any run."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zhgpt.errors import SettingError

if TYPE_CHECKING:
    from zhgpt.config.advice import SourceReading
    from zhgpt.config.data_section import BlendSource
    from zhgpt.train.training_data import TrainingData

_SUFFIXES = {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def mix(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREFIX:WEIGHT | KEY=VALUE]...",
            help="Sources with their weights (PREFIX alone: by size), or with --config overrides.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="RunConfig recipe (YAML) of a run.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens of the run, as in 2e9 or 2B [default: all sources once].")
    ] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Tokens a sample [default: 1024].")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="For sources by size: above 1 small ones are read more [default: 1].")
    ] = None,
) -> None:
    """Print samples, tokens and epochs a source, of the whole run and of each phase; nothing is read but manifests."""
    from zhgpt.config.advice import source_advice

    if config is not None:
        if (tokens, sequence_length, temperature) != (None, None, None):
            raise SettingError(
                "--tokens, --sequence-length and --temperature go with PREFIX:WEIGHT; with --config write train.steps=…, "
                "data.sequence_length=… or data.temperature=…"
            )
        data = _of_config(config, words or [])
    else:
        data = _of_words(words or [], tokens, sequence_length, temperature)
    _print_mix(data)
    for said in source_advice(data.readings()):
        typer.echo(f"warning: {said.en}")


def _of_config(path: Path, overrides: list[str]) -> "TrainingData":
    """The data of a run as its configuration says."""
    from zhgpt.config.batch_plan import plan_batch
    from zhgpt.config.loading import load_run_config
    from zhgpt.train.training_data import read_training_data

    config = load_run_config(path, overrides)
    plan = plan_batch(config, 1)  # the global batch is the same for any number of ranks
    return read_training_data(config.data, steps=plan.steps, samples_before=plan.samples_before)


def _of_words(
    words: list[str], tokens: str | None, sequence_length: int | None, temperature: float | None
) -> "TrainingData":
    """The data of a run of sources given on the command line; a step is a sample."""
    from megatron_style_data.manifest import load_manifest
    from zhgpt.config.data_checks import data_problems
    from zhgpt.config.data_section import DataSection
    from zhgpt.train.training_data import read_training_data

    if not words:
        raise SettingError("name the sources, as in data/web:6 data/wiki:3, or a run's settings with --config.")
    blend = tuple(_source(word) for word in words)
    length, power = sequence_length or 1024, 1.0 if temperature is None else temperature
    if length < 2 or power <= 0:
        raise SettingError(f"--sequence-length {length} must be at least 2, --temperature {power:g} greater than 0.")
    section = DataSection(blend=blend, temperature=power, sequence_length=length)
    problems = data_problems(section, 1)
    if problems:
        raise SettingError("\n".join(problems))
    sizes = [load_manifest(source.data).splits["train"].tokens for source in blend]
    wanted = sum(sizes) if tokens is None else _count(tokens)
    return read_training_data(section, steps=-(-wanted // length), samples_before=lambda step: step)


def _source(word: str) -> "BlendSource":
    """PREFIX:WEIGHT, or PREFIX alone."""
    from zhgpt.config.data_section import BlendSource

    prefix, colon, text = word.rpartition(":")
    if not colon:
        return BlendSource(data=word, name=word)
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not prefix or not 0 <= weight < float("inf"):
        raise SettingError(f"{word}: expected PREFIX:WEIGHT with a weight of at least 0, as in data/web:6.")
    return BlendSource(data=prefix, name=prefix, weight=weight)


def _count(text: str) -> int:
    """A number of tokens: 2000000, 2e6, 2M."""
    digits, factor = (text[:-1], _SUFFIXES[text[-1]]) if text[-1:] in _SUFFIXES else (text, 1)
    try:
        count = float(digits.replace("_", "").replace(",", "")) * factor
    except ValueError:
        count = 0
    if not 1 <= count < 1e18:
        raise SettingError(f"--tokens {text}: expected a number of tokens of at least 1, as in 2000000, 2e6 or 2M.")
    return round(count)


def _print_mix(data: "TrainingData") -> None:
    from zhgpt.config.quantities import count_text

    length = data.section.sequence_length
    typer.echo(
        f"{len(data.sources)} {'sources' if len(data.sources) > 1 else 'source'}, {data.samples:,} samples of {length:,} "
        f"tokens = {count_text(data.samples * length)} tokens"
    )
    _print_readings(data.readings())
    bounds = [*(phase.first_sample for phase in data.schedule.phases), data.samples]
    if len(bounds) == 2:
        return
    for step, (first, end) in zip(data.phase_steps, itertools.pairwise(bounds), strict=True):
        typer.echo(f"from step {step:,} (sample {first:,}), {end - first:,} samples:")
        _print_readings(data.readings(first, end))


def _print_readings(readings: "tuple[SourceReading, ...]") -> None:
    from zhgpt.cli.table import print_table
    from zhgpt.config.quantities import count_text

    whole = sum(reading.samples for reading in readings)
    head = ("source", "share", "samples", "tokens", "of", "epochs")
    print_table(
        head,
        [
            (
                reading.name,
                f"{100 * reading.samples / max(1, whole):.4g} %",
                f"{reading.samples:,}",
                count_text(reading.read_tokens),
                count_text(reading.tokens),
                f"{reading.epochs:.3g}",
            )
            for reading in readings
        ],
    )
