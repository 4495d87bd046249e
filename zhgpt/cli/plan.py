"""``zhgpt plan``: what some hours can buy, or what a run will take and give, before anything is spent."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from zhgpt.cli import plan_lr
from zhgpt.errors import SettingError

if TYPE_CHECKING:
    from zhgpt.plan.gpus import Cluster
    from zhgpt.plan.propose import Proposal

OVERRIDE = re.compile(r"^[a-z_]+(\.[a-z_]+)+=")
DEFAULT_DEEPSPEED_CONFIG = Path("ds_configs/zero1.json")


class PlanGroup(TyperGroup):
    """Sub-commands, and without one a plan: KEY=VALUE words are overrides there, and no sub-command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the overrides out before click looks for a sub-command."""
        if not any(word in self.commands for word in args):
            ctx.obj = [word for word in args if OVERRIDE.match(word)]
            args = [word for word in args if not OVERRIDE.match(word)]
        return super().parse_args(ctx, args)


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
        Path, typer.Option("--deepspeed_config", "--deepspeed-config", help="DeepSpeed JSON with the ZeRO stage.")
    ] = DEFAULT_DEEPSPEED_CONFIG,
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
    output: Annotated[Path | None, typer.Option("--output", help="Write the proposed recipe here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    language: Annotated[str, typer.Option(help="Of the sentences: en or zh.")] = "en",
) -> None:
    """Say what a run will take and give; without --config propose one. KEY=VALUE words override the recipe's settings.

    Propose: zhgpt plan --gpu L20 --num-gpus 1 --hours 4 --text-gb 0.5 --output my.yaml
    Predict: zhgpt plan --config my.yaml --gpu L20 --num-nodes 2 --gpus-per-node 8
    """
    if ctx.invoked_subcommand is None:
        place = Place(gpu, num_gpus, num_nodes, gpus_per_node, interconnect)
        asked = Asked(place, hours, price, text_gb, vocab_size, output, as_json, language)
        _answer(asked, config, deepspeed_config, ctx.obj or [])


@dataclass(frozen=True)
class Place:
    """The options that say what the run is to run on."""

    gpu: str
    num_gpus: int | None
    num_nodes: int
    gpus_per_node: int | None
    interconnect: str | None


@dataclass(frozen=True)
class Asked:
    """The options of both kinds of plan."""

    place: Place
    hours: float | None
    price: float | None
    text_gb: float | None
    vocab_size: int | None
    output: Path | None
    as_json: bool
    language: str


def _answer(asked: Asked, config: Path | None, deepspeed_config: Path, overrides: list[str]) -> None:
    """A prediction where there is a recipe, a proposal where there are hours.

    Raises:
        SettingError: neither, or options that do not go together.
    """
    _check_numbers(asked)
    if config is None and overrides:
        raise SettingError(f"{overrides[0]} overrides a recipe; name one with --config, or leave it out")
    if config is None and asked.hours is None:
        raise SettingError("name a recipe with --config, or the hours that may be spent with --hours")
    if config is not None and asked.output is not None:
        raise SettingError("--output writes a proposed recipe; leave out --config to have one proposed")
    if config is None:
        _propose(asked)
    else:
        _predict(asked, config, deepspeed_config, overrides)


def _predict(asked: Asked, config_path: Path, deepspeed_config: Path, overrides: list[str]) -> None:
    """Read recipe and JSON, predict, print; for a run that would fail, with a plan that would not."""
    from zhgpt.cli.plan_tables import print_json, print_prediction
    from zhgpt.config.deepspeed_json import load_deepspeed_json
    from zhgpt.config.loading import load_run_config
    from zhgpt.plan.predict import Wishes, predict
    from zhgpt.plan.propose import propose
    from zhgpt.plan.text import text_of
    from zhgpt.plan.words import check_language, is_doomed

    language = check_language(asked.language)
    config = load_run_config(config_path, overrides)
    ds_json = load_deepspeed_json(deepspeed_config)
    cluster = _cluster(asked.place, config.train.precision)
    text = text_of(config.data, asked.text_gb, asked.vocab_size or config.model.vocab_size)
    wishes = Wishes(asked.hours, asked.price)
    prediction = predict(config, ds_json, cluster, text, wishes)
    instead: Proposal | None = None
    if is_doomed(prediction):
        hours = wishes.hours or prediction.seconds / 3600
        instead = propose("instead", cluster, hours, text, wishes, data=config.data.train or "data/zh")
    if asked.as_json:
        print_json(prediction, instead, language)
    else:
        print_prediction(prediction, instead, language)


def _propose(asked: Asked) -> None:
    """Propose a recipe, print its prediction, and write it where asked to."""
    from megatron_style_data.atomic import atomic_write_bytes
    from zhgpt.cli.plan_tables import print_json, print_proposal
    from zhgpt.plan.document import recipe_text
    from zhgpt.plan.predict import Wishes
    from zhgpt.plan.propose import propose
    from zhgpt.plan.text import text_of
    from zhgpt.plan.words import check_language

    assert asked.hours is not None
    language = check_language(asked.language)
    cluster = _cluster(asked.place, "bf16")
    name = asked.output.stem if asked.output is not None else "planned"
    text = text_of(None, asked.text_gb, asked.vocab_size)
    proposal = propose(name, cluster, asked.hours, text, Wishes(asked.hours, asked.price))
    if asked.as_json:
        print_json(proposal.prediction, proposal, language)
    else:
        print_proposal(proposal, asked.output, language)
    if asked.output is not None:
        atomic_write_bytes(asked.output, recipe_text(proposal, f"zhgpt plan {_words(cluster, asked)}").encode())


def _words(cluster: "Cluster", asked: Asked) -> str:
    """The options that ask for the same proposal."""
    words = [f"--gpu {cluster.gpu.name}"]
    if cluster.nodes == 1:
        words.append(f"--num-gpus {cluster.gpus_per_node}")
    else:
        words.append(f"--num-nodes {cluster.nodes} --gpus-per-node {cluster.gpus_per_node}")
    words += [f"--interconnect {asked.place.interconnect}"] if asked.place.interconnect is not None else []
    words.append(f"--hours {asked.hours:g}")
    words += [f"--text-gb {asked.text_gb:g}"] if asked.text_gb is not None else []
    words += [f"--vocab-size {asked.vocab_size}"] if asked.vocab_size is not None else []
    return " ".join([*words, f"--output {asked.output}"])


def _check_numbers(asked: Asked) -> None:
    """Refuse what cannot be counted with, by the option's name; a price may be 0."""
    place = asked.place
    numbers = {
        "--hours": asked.hours,
        "--num-gpus": place.num_gpus,
        "--num-nodes": place.num_nodes,
        "--gpus-per-node": place.gpus_per_node,
    }
    for option, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise SettingError(f"{option} {value:g} must be greater than 0")
    if asked.price is not None and not 0 <= asked.price < float("inf"):
        raise SettingError(f"--price-per-gpu-hour {asked.price:g} must be 0 or greater")


def _cluster(place: Place, precision: str) -> "Cluster":
    """What the options describe.

    Raises:
        SettingError: no such GPU or link, or options that say it twice.
    """
    from zhgpt.plan.gpus import DEFAULT_INTERCONNECT, Cluster, find_gpu, find_interconnect

    if place.num_gpus is not None and (place.gpus_per_node is not None or place.num_nodes > 1):
        raise SettingError("--num-gpus counts the GPUs of one host; with --num-nodes write --gpus-per-node")
    if place.interconnect is not None and place.num_nodes == 1:
        raise SettingError("--interconnect is the link between hosts; it needs --num-nodes 2 or more")
    count = place.num_gpus or place.gpus_per_node or 1
    if place.gpu.lower() == "cpu":
        from zhgpt.plan.this_cpu import measure_this_cpu

        found = measure_this_cpu(precision)
        found = replace(found, memory_bytes=found.memory_bytes / count)
    else:
        found = find_gpu(place.gpu)
    return Cluster(found, place.num_nodes, count, find_interconnect(place.interconnect or DEFAULT_INTERCONNECT))
