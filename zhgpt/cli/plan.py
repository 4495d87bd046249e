"""``zhgpt plan``: what some hours can buy, or what a run will take and give, before anything is spent."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from zhgpt.cli import plan_lr
from zhgpt.cli.plan_options import Asked, Place, check_numbers, cluster_of, command_of, recipe_file
from zhgpt.errors import SettingError

if TYPE_CHECKING:
    from zhgpt.plan.propose import Proposal

OVERRIDE = re.compile(r"^[a-z_]+(\.[a-z_]+)+=")


class PlanGroup(TyperGroup):
    """Sub-commands, and without one a plan: KEY=VALUE words are overrides there, and no sub-command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the overrides out before click looks for a sub-command."""
        if not any(word in self.commands for word in args):
            ctx.obj = [word for word in args if OVERRIDE.match(word)]
            args = [word for word in args if not OVERRIDE.match(word)]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The sub-command; another word is an override that was written wrong.

        Raises:
            SettingError: it is neither.
        """
        if args and args[0] not in self.commands:
            known = ", ".join(self.commands)
            raise SettingError(
                f"'{args[0]}': expected section.key=value, as in train.steps=1000, or the sub-command {known}"
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=PlanGroup,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    subcommand_metavar="[KEY=VALUE]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("lr")(plan_lr.command)


@app.callback()
def plan(
    ctx: typer.Context,
    gpu: Annotated[
        str, typer.Option("--gpu", help="L20, L40S, 4090, A100-40, A100-80, H100, H20, V100, or cpu: this machine's.")
    ] = "L20",
    config: Annotated[
        Path | None, typer.Option("--config", help="Predict this recipe (YAML); without it, one is proposed.")
    ] = None,
    deepspeed_config: Annotated[
        Path | None,
        typer.Option(
            "--deepspeed_config", "--deepspeed-config", help="DeepSpeed JSON [default: ds_configs/zero1.json]."
        ),
    ] = None,
    num_gpus: Annotated[int | None, typer.Option("--num-gpus", help="GPUs of one host [default: 1].")] = None,
    num_nodes: Annotated[int, typer.Option("--num-nodes", help="Hosts.")] = 1,
    gpus_per_node: Annotated[int | None, typer.Option("--gpus-per-node", help="GPUs a host [default: 1].")] = None,
    interconnect: Annotated[
        str | None,
        typer.Option(help="Link between hosts, as in infiniband-400: Gbit/s a host [default: infiniband-200]."),
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Hours that may be spent.")] = None,
    text_gb: Annotated[
        float | None, typer.Option("--text-gb", help="UTF-8 text in GB [default: that of the recipe's dataset].")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option("--vocab-size", help="Ids of the tokenizer [default: the dataset's, else 32000].")
    ] = None,
    price: Annotated[float | None, typer.Option("--price-per-gpu-hour", help="For the cost; in any currency.")] = None,
    tokens_per_parameter: Annotated[
        float | None, typer.Option(help="Propose the largest model that gets so many tokens a parameter [default: 20].")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="A new file for the proposed recipe [default: planned.yaml, or planned-2.yaml …]."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    language: Annotated[str, typer.Option(help="Of the sentences: en or zh.")] = "en",
) -> None:
    """Say what a run will take and give; without --config propose one and write its recipe. KEY=VALUE words override settings.

    Propose: zhgpt plan --gpu L20 --num-gpus 1 --hours 4 --text-gb 0.5 --output my.yaml
    Predict: zhgpt plan --config my.yaml --gpu L20 --num-nodes 2 --gpus-per-node 8
    """
    if ctx.invoked_subcommand is None:
        place = Place(gpu, num_gpus, num_nodes, gpus_per_node, interconnect)
        asked = Asked(place, hours, price, text_gb, vocab_size, tokens_per_parameter, output, as_json, language)
        _answer(asked, config, deepspeed_config, ctx.obj or [])


def _answer(asked: Asked, config: Path | None, deepspeed_config: Path | None, overrides: list[str]) -> None:
    """A prediction where there is a recipe, a proposal where there are hours.

    Raises:
        SettingError: neither, or options that do not go together.
    """
    check_numbers(asked)
    if config is not None:
        for option, value in (("--output", asked.output), ("--tokens-per-parameter", asked.tokens_per_parameter)):
            if value is not None:
                raise SettingError(f"{option} belongs to a proposed recipe; leave out --config to have one proposed")
        _predict(asked, config, deepspeed_config, overrides)
        return
    if overrides:
        raise SettingError(f"{overrides[0]} overrides a recipe; name one with --config, or leave it out")
    if asked.hours is None:
        raise SettingError("name a recipe with --config, or the hours that may be spent with --hours")
    if deepspeed_config is not None:
        raise SettingError(
            f"--deepspeed_config {deepspeed_config} belongs to a recipe; a proposal chooses the ZeRO stage itself: leave it out, "
            "or name a recipe with --config"
        )
    _propose(asked)


def _predict(asked: Asked, config_path: Path, deepspeed_config: Path | None, overrides: list[str]) -> None:
    """Read recipe and JSON, predict, print; for a run that would fail, with a plan that would not."""
    from zhgpt.cli.plan_tables import print_json, print_prediction
    from zhgpt.config.deepspeed_json import load_deepspeed_json
    from zhgpt.config.loading import load_run_config
    from zhgpt.plan.predict import Wishes, predict
    from zhgpt.plan.propose import NothingToPropose, propose
    from zhgpt.plan.text import text_of
    from zhgpt.plan.words import check_language, is_doomed

    language = check_language(asked.language)
    config = load_run_config(config_path, overrides)
    ds_json = load_deepspeed_json(deepspeed_config)
    cluster = cluster_of(asked.place, config.train.precision)
    text = text_of(config.data, asked.text_gb, asked.vocab_size or config.model.vocab_size)
    wishes = Wishes(asked.hours, asked.price)
    prediction = predict(config, ds_json, cluster, text, wishes)
    instead: Proposal | NothingToPropose | None = None
    if is_doomed(prediction):
        hours = wishes.hours or prediction.seconds / 3600
        # A CPU was measured at the recipe's precision, so that is the one to propose for it.
        precision = config.train.precision if cluster.gpu.name == "cpu" else None
        data = config.data.train or "data/zh"
        try:
            instead = propose("instead", cluster, hours, text, wishes, data, precision=precision)
        except NothingToPropose as error:
            instead = error
    if asked.as_json:
        print_json(prediction, instead, None, language)
    else:
        print_prediction(prediction, instead, language)


def _propose(asked: Asked) -> None:
    """Propose a recipe, write it, and print its prediction.

    Raises:
        NothingToPropose: even the best that the hours and the text allow would fail; nothing is written.
    """
    from megatron_style_data.atomic import atomic_write_text
    from zhgpt.cli.plan_tables import print_json, print_proposal
    from zhgpt.config.advice import TOKENS_PER_PARAMETER
    from zhgpt.plan.document import recipe_text
    from zhgpt.plan.predict import Wishes
    from zhgpt.plan.propose import NothingToPropose, propose
    from zhgpt.plan.text import text_of
    from zhgpt.plan.words import check_language, instead_sentence, would_do

    assert asked.hours is not None
    language = check_language(asked.language)
    recipe = recipe_file(asked.output)
    cluster = cluster_of(asked.place, "bf16")
    text = text_of(None, asked.text_gb, asked.vocab_size)
    proposal = propose(
        recipe.stem,
        cluster,
        asked.hours,
        text,
        Wishes(asked.hours, asked.price),
        tokens_per_parameter=asked.tokens_per_parameter or TOKENS_PER_PARAMETER,
    )
    if not would_do(proposal):
        raise NothingToPropose(instead_sentence(proposal).text(language))
    atomic_write_text(recipe, recipe_text(proposal, command_of(cluster, asked, recipe)))
    if asked.as_json:
        print_json(proposal.prediction, proposal, recipe, language)
    else:
        print_proposal(proposal, recipe, language)
