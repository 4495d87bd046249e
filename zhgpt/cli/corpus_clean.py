"""``zhgpt corpus clean``: a corpus through a recipe of steps, or one document with the reasons."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zhgpt.cli.data_progress import progress
from zhgpt.errors import SettingError

if TYPE_CHECKING:
    from megatron_style_data.cleaning.recipe import Recipe
    from megatron_style_data.cleaning.run import CleanResult


def clean(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe; configs/corpus has some.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Settings that go before the recipe's: steps.length.minimum_characters=100."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The folder to write [default: the recipe's output].")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes [default: the cores there are].")] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="FILE:LINE|FILE", help="Show what each step says of one document, and write nothing."),
    ] = None,
    near_threshold: Annotated[
        int, typer.Option(help="Write tables of so many documents nearest each threshold, kept and dropped.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a cleaned corpus that is there already.")] = False,
) -> None:
    """Clean a corpus by a recipe. The same command goes on where an interrupted one stopped."""
    loaded = _load(recipe, overrides or [])
    if explain is not None:
        from megatron_style_data.cleaning.explain import explain as explain_document
        from megatron_style_data.cleaning.explain import explanation_lines

        for line in explanation_lines(explain_document(loaded, explain)):
            typer.echo(line)
        return
    from megatron_style_data.cleaning.run import clean as clean_corpus

    folder = output or loaded.output
    if folder is None:
        raise SettingError(f"{recipe}: no output; name a folder with --output, or as output in the recipe.")
    processes = len(os.sched_getaffinity(0)) if workers is None else workers
    began = time.monotonic()
    with progress(about=True) as tell:
        result = clean_corpus(loaded, folder, workers=processes, near=near_threshold, force=force, tell=tell)
    _print(result, time.monotonic() - began)


def _load(path: Path, overrides: list[str]) -> "Recipe":
    from megatron_style_data.cleaning.recipe import load_recipe
    from zhgpt.config.yaml_text import parse_yaml
    from zhgpt.errors import BadDataError, MissingInputError

    try:
        text = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingInputError(f"{path}: no such recipe; configs/corpus has some.") from error
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path}: byte {error.start} is not UTF-8; expected a recipe in UTF-8.") from error
    parsed = parse_yaml(text, str(path))
    value = parsed.value
    for override in overrides:
        value = _overridden(value, override)
    return load_recipe(value, str(path), parsed.lines)


def _overridden(value: object, override: str) -> object:
    """A recipe with one ``steps.length.minimum_characters=100`` in it."""
    from zhgpt.config.yaml_text import parse_yaml

    key, equals, said = override.partition("=")
    if not equals or not all(key.split(".")) or not isinstance(value, dict):
        raise SettingError(f"override {override}: expected KEY=VALUE, such as steps.length.minimum_characters=100.")
    changed = parse_yaml(said, f"override {override}").value
    return _with(value, key.split("."), changed, override)


def _with(value: dict[str, object], keys: list[str], changed: object, override: str) -> dict[str, object]:
    if len(keys) == 1:
        return {**value, keys[0]: changed}
    inner = value.get(keys[0])
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise SettingError(f"override {override}: {keys[0]} holds no settings by name; change it in the recipe.")
    return {**value, keys[0]: _with(inner, keys[1:], changed, override)}


def _print(result: "CleanResult", seconds: float) -> None:
    if result.ledger is None:
        typer.echo(
            f"submitted to Slurm as jobs {', '.join(result.jobs)}; the last one writes {result.output}/corpus.html"
        )
        return
    if result.resumed_tasks:
        typer.echo(f"went on after {result.resumed_tasks:,} tasks of an interrupted run")
    ledger, total = result.ledger, result.ledger.total
    read, kept = total.read, total.kept
    for reason, count in ledger.accounts.unreadable.items():
        typer.echo(
            f"  could not be read    {count:>9,}  {reason}, first: {ledger.accounts.first_unreadable[reason][0]}"
        )
    typer.echo(f"  read                 {read.documents:>9,}  documents, {read.utf8_bytes / 1e6:,.1f} MB")
    for step, dropped in ledger.flow():
        changed = ledger.accounts.steps[step].changed if step in ledger.accounts.steps else 0
        more = f", {changed:,} changed" if changed else ""
        typer.echo(f"  {step:<20} {-dropped:>9,}  ({100 * dropped / max(1, read.documents):.2f} %){more}")
    tokens = f", {kept.tokens:,} tokens" if ledger.recipe.tokenizer else ""
    typer.echo(f"  kept                 {kept.documents:>9,}  documents, {kept.utf8_bytes / 1e6:,.1f} MB{tokens}")
    typer.echo(
        f"{result.output}: {ledger.shards:,} shards in data/, corpus.html to look at; {seconds:,.0f} s, "
        f"{read.utf8_bytes / 1e6 / max(seconds, 1e-9):,.1f} MB/s"
    )
