"""``zhgpt export``: a checkpoint as a model for other programs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Turn a checkpoint into a model that other programs load.",
)


@app.callback()
def formats() -> None:
    """Turn a checkpoint into a model that other programs load."""


@app.command("hf")
def hf(
    checkpoint: Annotated[Path, typer.Option(help="A step's folder, or a run's (its newest complete checkpoint).")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, bfloat16 or float16.")] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
) -> None:
    """Write safetensors, config and tokenizer for transformers, vLLM and others; refused if the logits differ."""
    from transformers.utils import logging

    from zhgpt.checkpoint.consolidated import load_consolidated, saved_model
    from zhgpt.export.hf import Probe, check_output, export_hf, exported_class

    check_output(output, dtype, force=force)
    exported_class(saved_model(checkpoint))  # a model that no class holds is refused before its weights are read
    logging.disable_progress_bar()
    found = load_consolidated(checkpoint)
    probe = Probe(found.probe_tokens, found.probe_logits, found.precision)
    exported = export_hf(
        found.state_dict, found.model, found.tokenizer_dir, output, dtype=dtype, force=force, probe=probe
    )
    typer.echo(
        f"{exported.path}: {exported.architecture}, {exported.parameters:,} parameters, {dtype}, step {found.step}"
    )
    typer.echo(
        f"logits differ by at most {exported.largest_difference:.2g} from the checkpoint's, and those by "
        f"{exported.largest_engine_difference:.2g} from the engine's in {found.precision}"
    )
    if exported.note is not None:
        typer.echo(f"note: {exported.note}", err=True)
    typer.echo(f"next: zhgpt generate --model {exported.path} --prompt 村民们都很高兴，在")
