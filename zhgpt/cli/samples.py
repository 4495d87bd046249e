"""``zhgpt samples``: a model's texts at fixed prompts, measured beside held-out text."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zhgpt.errors import BadDataError, MissingInputError, StorageError

if TYPE_CHECKING:
    from zhgpt.export.generate import GenerationSettings, LoadedModel
    from zhgpt.report.written_samples import Sample, WrittenSamples


def command(
    model: Annotated[Path, typer.Option(help="An exported model's folder, or a run's (its newest checkpoint).")],
    data: Annotated[
        Path,
        typer.Option(help="PREFIX of the dataset it was trained on: held-out text to compare with, copies to find."),
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="A file with a prompt a line, such as configs/prompts/zh_64.txt [default: how held-out passages begin; "
            "texts are compared with how those go on]."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A new folder for all texts and numbers.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of a text at most.")] = 150,
    temperature: Annotated[float, typer.Option(help="Of the drawn texts.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest tokens with this share.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the first prompt; each next one has the next.")] = 1,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Where the dataset's tokenizer is [default: as recorded].")
    ] = None,
    held_out_from: Annotated[
        Literal["beginning", "inside"],
        typer.Option(help="Where in a document held-out text begins; inside: where prompts are no beginnings."),
    ] = "beginning",
    passages: Annotated[int, typer.Option(min=1, help="Without --prompts: held-out passages, one a document.")] = 64,
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Without --prompts: tokens of each that are the prompt.")
    ] = 16,
    search_tokens: Annotated[
        int,
        typer.Option(min=0, help="Tokens of training text that copies are looked for in, evenly spread; 0: none."),
    ] = 100_000_000,
) -> None:
    """Write at fixed prompts and seeds and say whether it reads like the held-out text, in numbers.

    Nothing is chosen and no repetition penalty is there to hide what a model does; greedy decoding stands beside it.
    """
    if output is not None and output.exists():
        raise StorageError(f"{output}: exists already; choose another output or remove it first.")
    lines = None if prompts is None else read_prompts(prompts)

    from transformers.utils import logging

    from megatron_style_data.inspection import dataset_tokenizer
    from megatron_style_data.manifest import load_manifest
    from zhgpt.evaluate.memorisation import training_passages
    from zhgpt.evaluate.writing import Writing, held_out_passages, held_out_texts, writing_of
    from zhgpt.export.generate import GenerationSettings, exported_folder, load_for_generation
    from zhgpt.report.written_samples import WrittenSamples, write_samples

    drawn = GenerationSettings(max_new_tokens, temperature=temperature, top_k=0, top_p=top_p, seed=seed)
    drawn.check()
    manifest = load_manifest(data)
    loaded = dataset_tokenizer(data, manifest, tokenizer)
    inside, begun_as = held_out_from == "inside", {}
    if lines is None:
        chosen = held_out_passages(data, loaded, passages, prompt_tokens, max_new_tokens, inside=inside)
        lines, held_out = [one.prompt for one in chosen], [one.continuation for one in chosen]
        begun_as = {"prompt-tokens": prompt_tokens}
    else:
        held_out = held_out_texts(data, loaded, 8 * len(lines), max_new_tokens, inside=inside)
    logging.disable_progress_bar()
    with exported_folder(model) as folder:
        writer = load_for_generation(folder)

    samples = _written_at(lines, writer, drawn)

    def numbers_of(texts: list[str]) -> Writing | None:
        return writing_of(texts, training_passages([str(data)], loaded, search_tokens) if search_tokens else None)

    found = WrittenSamples(
        tuple(samples),
        {
            "temperature": temperature,
            "top-p": top_p,
            "max-new-tokens": max_new_tokens,
            "seed": f"{seed} and on",
            "held-out-from": held_out_from,
            **begun_as,
        },
        numbers_of([sample.text for sample in samples]),
        numbers_of([sample.greedy for sample in samples]),
        writing_of(held_out),
        (search_tokens, manifest.splits["train"].tokens) if search_tokens else None,
    )
    _print(found)
    if output is not None:
        write_samples(output, found)
        typer.echo(f"all texts: {output / 'samples.md'}")


def _written_at(lines: list[str], writer: "LoadedModel", drawn: "GenerationSettings") -> "list[Sample]":
    """A drawn and a greedy text for each prompt, with a line of progress after every eight."""
    from zhgpt.export.generate import generate_text
    from zhgpt.report.written_samples import Sample

    samples = []
    for number, prompt in enumerate(lines):
        settings = replace(drawn, seed=drawn.seed + number)
        text, greedy = (
            generate_text(writer, prompt, one, lambda piece: None).removeprefix(prompt)
            for one in (settings, replace(settings, greedy=True))
        )
        samples.append(Sample(prompt, settings.seed, text, greedy))
        if (number + 1) % 8 == 0 or number + 1 == len(lines):
            typer.echo(f"wrote {number + 1} of {len(lines)}", err=True)
    return samples


def _print(found: "WrittenSamples") -> None:
    from zhgpt.cli.table import print_table
    from zhgpt.report.written_samples import HEAD

    rows = found.table()
    if rows:
        print_table(HEAD, rows)
    for sentence in found.sentences():
        typer.echo(sentence)


def read_prompts(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not empty.

    Raises:
        MissingInputError: there is no such file.
        BadDataError: it is not UTF-8, or has no prompt.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; expected a text file with a prompt a line.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    found = [line for line in text.splitlines() if line.strip()]
    if not found:
        raise BadDataError(f"{path}: has no prompt; write one a line.")
    return found
