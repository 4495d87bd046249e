"""``zhgpt generate``: continues a prompt and prints the text as it grows."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zhgpt.errors import SettingError


def command(
    model: Annotated[Path, typer.Option(help="An exported model's folder, or a run's (its newest checkpoint).")],
    prompt: Annotated[str, typer.Option(help="Text to continue; empty: start as a document does.")] = "",
    max_new_tokens: Annotated[int, typer.Option(help="Tokens to write at most.")] = 60,
    temperature: Annotated[float | None, typer.Option(help="Higher is bolder [default: 0.8].")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among this many tokens; 0: all [default: 50].")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among the likeliest with this share [default: 1].")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: repeat less.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Decides the draws [default: 1234].")] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="The likeliest token each time; nothing is drawn.")] = False,
) -> None:
    """Continue a prompt with an exported model or a run."""
    drawn: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    given = {name: value for name, value in drawn.items() if value is not None}
    if greedy and given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise SettingError(f"--greedy draws nothing, so {names} would have no effect; leave one of them out.")
    _write_utf8()

    from transformers.utils import logging

    from zhgpt.export.generate import GenerationSettings, exported_folder, generate_text, load_for_generation

    settings = GenerationSettings(max_new_tokens, repetition_penalty=repetition_penalty, greedy=greedy, **given)
    settings.check()
    logging.disable_progress_bar()
    with exported_folder(model) as folder:
        loaded = load_for_generation(folder)
    generate_text(loaded, prompt, settings, _write)
    _write("\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_utf8() -> None:
    """Chinese text is UTF-8 whatever the locale says (a bare ssh or cron has ASCII)."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8")
