"""The plan of an ablation: every variant with its final settings, its length, its cost, and why it cannot run if so."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_style_data.atomic import atomic_write_json
from zhgpt.ablate.child import Place
from zhgpt.ablate.expand import override_words
from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.grid import Settings
from zhgpt.errors import BadDataError, SettingError
from zhgpt.train.arguments import PretrainArguments

FORMAT = 1


@dataclass(frozen=True)
class PlannedVariant:
    """A variant that is ready to run.

    Attributes:
        name: a folder's name.
        settings: what distinguishes it.
        overrides: everything on top of the base recipe, the length that the constraint gave it included.
        deepspeed_json: what its DeepSpeed JSON holds.
        steps, tokens_per_step, flops_per_token, parameters: of a run.
        ramp_tokens: tokens of a run whose first batches are smaller; None where all steps are alike.
        step_seconds, peak_memory_bytes: from its probe; None where none ran.
        problem: why it cannot run; empty when it can.
        problem_code: the exit code that the problem stands for.
    """

    name: str
    settings: Settings
    overrides: Settings
    deepspeed_json: dict[str, Any]
    steps: int
    tokens_per_step: int
    flops_per_token: int
    parameters: int
    ramp_tokens: int | None = None
    step_seconds: float | None = None
    peak_memory_bytes: float | None = None
    problem: str = ""
    problem_code: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a run."""
        return self.steps * self.tokens_per_step if self.ramp_tokens is None else self.ramp_tokens

    @property
    def flops(self) -> int:
        """FLOPs of a run, forward and backward."""
        return self.tokens * self.flops_per_token

    @property
    def seconds(self) -> float | None:
        """Predicted training time; starting, evaluating and saving come on top."""
        return None if self.step_seconds is None else self.steps * self.step_seconds


@dataclass(frozen=True)
class Cell:
    """One run: a variant with a seed."""

    number: int
    variant: PlannedVariant
    seed: int

    @property
    def name(self) -> str:
        """Its folder below ``runs/``."""
        return f"{self.variant.name}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What ``plan.json`` holds."""

    name: str
    question: str
    config: str
    processes: int
    hosts: int
    memory_limit_gib: float | None
    constraints: tuple[str, ...]
    baseline: str
    seeds: tuple[int, ...]
    indifference: float
    confidence: float
    variants: tuple[PlannedVariant, ...]
    time: Literal["seconds", "cpu_seconds"] = "seconds"

    @property
    def place(self) -> Place:
        """How each run is started."""
        limit = None if self.memory_limit_gib is None else int(self.memory_limit_gib * 2**30)
        return Place(self.processes, self.hosts, limit)

    @property
    def cells(self) -> list[Cell]:
        """All runs, seed by seed: what changes on the machine meanwhile then meets all variants of a seed alike."""
        pairs = [(seed, variant) for seed in self.seeds for variant in self.variants]
        return [Cell(number, variant, seed) for number, (seed, variant) in enumerate(pairs)]

    def variant(self, name: str) -> PlannedVariant:
        """The variant of that name."""
        return next(variant for variant in self.variants if variant.name == name)


def save_plan(folder: AblationFolder, plan: Plan) -> None:
    """Writes ``plan.json``; a plan that runs have been made by may grow, and not change.

    Raises:
        SettingError: a variant that has runs would now be another one.
    """
    earlier = load_plan(folder) if folder.plan.exists() else None
    for variant in earlier.variants if earlier else ():
        now = next((other for other in plan.variants if other.name == variant.name), None)
        started = (
            any(folder.run(f"{variant.name}-seed{seed}").has_run() for seed in earlier.seeds) if earlier else False
        )
        if now is not None and started and _identity(now) != _identity(variant):
            raise SettingError(
                f"{folder.path} holds runs of variant {variant.name} with other settings ({_changed(variant, now)}); give "
                "the grid another name, choose another folder with --dir, or remove that one"
            )
    for variant in plan.variants:
        atomic_write_json(folder.deepspeed(variant.name), variant.deepspeed_json)
    atomic_write_json(folder.plan, {"format": FORMAT, **asdict(plan)})


def load_plan(folder: AblationFolder) -> Plan:
    """The plan that was saved.

    Raises:
        BadDataError: it is no plan of this version.
    """
    content = json.loads(folder.plan.read_text(encoding="utf-8"))
    if content.pop("format", None) != FORMAT:
        raise BadDataError(f"{folder.plan}: not a plan of format {FORMAT}; remove the file, the runs stay")
    content["variants"] = tuple(PlannedVariant(**variant) for variant in content["variants"])
    content |= {"seeds": tuple(content["seeds"]), "constraints": tuple(content["constraints"])}
    return Plan(**content)


def arguments_of(folder: AblationFolder, plan: Plan, cell: Cell) -> PretrainArguments:
    """The command line of one run."""
    fixed = {
        "run.name": cell.name,
        "run.dir": str(folder.run(cell.name).path),
        "run.seed": cell.seed,
        "launch.world_size": plan.processes * plan.hosts,
    }
    words = override_words({**cell.variant.overrides, **fixed})
    return PretrainArguments(Path(plan.config), folder.deepspeed(cell.variant.name), "auto", tuple(words))


def _identity(variant: PlannedVariant) -> dict[str, Any]:
    return {**variant.overrides, "deepspeed": variant.deepspeed_json}


def _changed(before: PlannedVariant, after: PlannedVariant) -> str:
    one, other = _identity(before), _identity(after)
    keys: Sequence[str] = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key)}, now {other.get(key)}" for key in keys)
