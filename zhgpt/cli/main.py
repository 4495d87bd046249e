"""The ``zhgpt`` command: sub-commands are imported only when they are used, so that --help is quick."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from zhgpt import __version__
from zhgpt.errors import UserError

# name -> (module, attribute, one line of help); groups have an `app`, single commands a `command` function.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("zhgpt.cli.demo", "command", "Text to a speaking model on this machine, in minutes."),
    "corpus": ("zhgpt.cli.corpus", "app", "Read corpora as they are, clean them, find duplicates."),
    "tokenizer": ("zhgpt.cli.tokenizer", "app", "Train a tokenizer and look at what it does."),
    "data": ("zhgpt.cli.data", "app", "Build, verify, inspect and adopt indexed datasets."),
    "plan": ("zhgpt.cli.plan", "app", "What your hours can buy, or what a run will take and give, before it starts."),
    "pretrain": ("zhgpt.cli.pretrain", "command", "Train, with one process a GPU on this host (or one of several)."),
    "ablate": ("zhgpt.cli.ablate", "command", "Answer a question by a grid of runs, here or on Slurm."),
    "generate": ("zhgpt.cli.generate", "command", "Continue a prompt with an exported model."),
    "samples": ("zhgpt.cli.samples", "command", "Write at fixed prompts and measure the text beside held-out text."),
    "export": ("zhgpt.cli.export", "app", "Turn a checkpoint into a transformers model."),
    "report": ("zhgpt.cli.report", "command", "Make a run's report.html."),
}


class LazyGroup(TyperGroup):
    """A command group that imports a sub-command's module when it is asked for it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of a user's journey."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What --help needs of a sub-command: its name and one line."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][2])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command that is about to run."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else stub, rest


def load_command(name: str) -> Any:
    """Imports a sub-command's module and returns its click command."""
    module_name, attribute, _ = COMMANDS[name]
    found = getattr(importlib.import_module(module_name), attribute)
    if not isinstance(found, typer.Typer):
        names = {"help_option_names": ["-h", "--help"]}
        single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=names)
        single.command(name=name)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Pretrain Chinese GPT-2-scale language models on DeepSpeed, on one machine or many.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Options of the command itself."""
    if version:
        typer.echo(f"zhgpt {__version__}")
        raise typer.Exit


def print_error(error: UserError, prefix: str = "") -> None:
    """One sentence on stderr."""
    sys.stderr.write(f"{prefix}error: {error}\n")
    sys.stderr.flush()


def main() -> None:
    """Runs a command; errors a user can act on become one sentence and their documented exit code."""
    try:
        app()
    except UserError as error:
        print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
