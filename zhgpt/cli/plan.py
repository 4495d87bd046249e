"""``zhgpt plan``: what a run will need and reach, before it starts."""

import typer

from zhgpt.cli import plan_lr

app = typer.Typer(no_args_is_help=True, help="Know before a run what it needs and reaches.", rich_markup_mode=None)
app.command("lr")(plan_lr.command)


@app.callback()
def group() -> None:
    """Know before a run what it needs and reaches."""
