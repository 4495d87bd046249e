"""``zhgpt corpus``: reads corpora as they are, cleans them, finds duplicates."""

import typer

from zhgpt.cli.corpus_clean import clean
from zhgpt.cli.corpus_deduplicate import deduplicate
from zhgpt.cli.corpus_read import read

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Read corpora as they are, clean them, find duplicates.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (read, clean, deduplicate):
    app.command()(_command)
