"""The options of ``zhgpt plan``: their checks, the cluster that they describe, and the file that a proposal goes to."""

import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zhgpt.errors import SettingError, StorageError

if TYPE_CHECKING:
    from zhgpt.plan.gpus import Cluster

DEFAULT_NAME = "planned"

RANGES: dict[str, tuple[float, float]] = {
    "--hours": (0.001, 100_000),
    "--price-per-gpu-hour": (0, 1_000_000),
    "--text-gb": (0.000001, 1_000_000),
    "--vocab-size": (256, 10_000_000),
    "--tokens-per-parameter": (1, 1000),
    "--num-gpus": (1, 1_000_000),
    "--num-nodes": (1, 1_000_000),
    "--gpus-per-node": (1, 1_000_000),
}
"""What can be counted with, both ends included. A vocabulary holds the 256 bytes at least."""


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
    tokens_per_parameter: float | None
    output: Path | None
    as_json: bool
    language: str


def check_numbers(asked: Asked) -> None:
    """Refuse what cannot be counted with, by the option's name.

    Raises:
        SettingError: a number outside its range, infinite, or none.
    """
    values = {
        "--hours": asked.hours,
        "--price-per-gpu-hour": asked.price,
        "--text-gb": asked.text_gb,
        "--vocab-size": asked.vocab_size,
        "--tokens-per-parameter": asked.tokens_per_parameter,
        "--num-gpus": asked.place.num_gpus,
        "--num-nodes": asked.place.num_nodes,
        "--gpus-per-node": asked.place.gpus_per_node,
    }
    for option, value in values.items():
        least, most = RANGES[option]
        if value is not None and not least <= value <= most:
            raise SettingError(f"{option} {value:g}: expected a number from {least:g} to {most:,}")


def recipe_file(output: Path | None) -> Path:
    """Where the proposed recipe is written: ``--output``, or the first of planned.yaml, planned-2.yaml, … that is free.

    Raises:
        SettingError: the file's name cannot be a run's. StorageError: something is there already, or no folder to hold it.
    """
    from zhgpt.config.values import check_run_name

    if output is None:
        return next(path for path in _default_names() if not _is_there(path))
    if not str(output).isprintable():
        raise SettingError(f"--output {str(output)!r}: expected a path without control characters")
    if _is_there(output):
        raise StorageError(f"--output {output}: exists already; choose another name or remove it first")
    if not output.parent.is_dir():
        raise StorageError(f"--output {output}: there is no folder {output.parent}; make it, or choose another")
    try:
        check_run_name(output.stem)
    except ValueError as error:
        raise SettingError(f"--output {output}: the file's name becomes run.name, and {error}") from error
    return output


def _default_names() -> Iterator[Path]:
    yield Path(f"{DEFAULT_NAME}.yaml")
    yield from (Path(f"{DEFAULT_NAME}-{number}.yaml") for number in itertools.count(2))


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def command_of(cluster: "Cluster", asked: Asked, recipe: Path) -> str:
    """The command that asks for the same proposal."""
    words = [f"zhgpt plan --gpu {cluster.gpu.name}"]
    if cluster.nodes == 1:
        words.append(f"--num-gpus {cluster.gpus_per_node}")
    else:
        words.append(f"--num-nodes {cluster.nodes} --gpus-per-node {cluster.gpus_per_node}")
    words += [f"--interconnect {asked.place.interconnect}"] if asked.place.interconnect is not None else []
    words.append(f"--hours {asked.hours:g}")
    words += [f"--text-gb {asked.text_gb:g}"] if asked.text_gb is not None else []
    words += [f"--vocab-size {asked.vocab_size}"] if asked.vocab_size is not None else []
    if asked.tokens_per_parameter is not None:
        words.append(f"--tokens-per-parameter {asked.tokens_per_parameter:g}")
    return " ".join([*words, f"--output {shlex.quote(str(recipe))}"])


def cluster_of(place: Place, precision: str) -> "Cluster":
    """What the options describe; this machine's CPU is measured at the precision.

    Raises:
        SettingError: no such GPU or link, or options that say it twice.
    """
    from zhgpt.plan.gpus import DEFAULT_INTERCONNECT, Cluster, check_interconnect, find_gpu

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
    link = DEFAULT_INTERCONNECT if place.interconnect is None else check_interconnect(place.interconnect)
    return Cluster(found, place.num_nodes, count, link, place.num_nodes > 1 and place.interconnect is None)
