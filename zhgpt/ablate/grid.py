"""The grid file of an ablation: what varies, what is held equal, and against which variant the others are read."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from zhgpt.config.section import Real, Section, Switch, Whole
from zhgpt.config.values import check_run_name

Constraint = Literal["equal_tokens", "equal_active_flops", "equal_wall_clock", "largest_that_fits"]
LENGTHS: tuple[Constraint, ...] = ("equal_tokens", "equal_active_flops", "equal_wall_clock")
"""Constraints that say how long a variant trains; at most one of them holds."""

WHOLE_JSON = "deepspeed"
"""The dotted key that stands for a whole DeepSpeed JSON; `deepspeed.zero_optimization.stage` is one key of it."""

Settings = dict[str, Any]
"""Values by dotted key: of RunConfig, or of the DeepSpeed JSON with `deepspeed.` before it."""


class Base(Section):
    """What all variants start from."""

    config: Path
    """RunConfig recipe (YAML)."""
    deepspeed: Path = Path("ds_configs/zero1.json")
    """DeepSpeed JSON."""
    overrides: Settings = Field(default_factory=dict)
    """Settings of every variant, by dotted key."""


class Probe(Section):
    """The few steps that a variant really trains before its cost is predicted."""

    steps: Whole = Field(default=6, ge=2)
    """Optimizer steps of a probe."""
    warmup_steps: Whole = Field(default=2, ge=1)
    """First steps that are not timed: memory is allocated and kernels are chosen in them."""

    @model_validator(mode="after")
    def _leaves_steps_to_time(self) -> "Probe":
        if self.warmup_steps >= self.steps:
            raise ValueError(f"probe.warmup_steps {self.warmup_steps} leaves none of probe.steps {self.steps} to time")
        return self


class Span(Section):
    """The values that a search may take for one key: `choices`, or a range from `low` to `high`."""

    low: Real | None = None
    """Least value."""
    high: Real | None = None
    """Greatest value."""
    log: Switch = False
    """Whether values are drawn evenly on a logarithmic axis."""
    whole: Switch = False
    """Whether values are whole numbers."""
    choices: tuple[Any, ...] | None = None
    """The values one by one, instead of a range."""

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> "Span":
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("expected either choices, or low and high")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low {self.low:g} is not less than high {self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"a logarithmic range starts above 0, found low {self.low:g}")
        return self


class Search(Section):
    """Variants that a sampler proposes one after another, each knowing the results before it (extra `search`)."""

    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: Bayesian, a tree-structured Parzen estimator; `random`: independent draws."""
    trials: Whole = Field(default=20, gt=0)
    """Proposals in all; each is trained with every seed."""
    seed: Whole = Field(default=0, ge=0)
    """Seed of the sampler."""
    space: dict[str, Span]
    """What may vary, by dotted key."""


class Grid(Section):
    """One ablation."""

    name: str
    """Name of the ablation; its folder is `ablations/<name>`."""
    question: str = ""
    """What it is to answer, in a sentence; the report begins with it."""
    base: Base
    axes: dict[str, list[Any] | dict[str, Any]] = Field(default_factory=dict)
    """Values by dotted key, as a list or by name; every combination becomes a variant."""
    variants: dict[str, Settings] = Field(default_factory=dict)
    """Variants by name, each with its settings; with axes, each is combined with all of their values."""
    exclude: list[Settings] = Field(default_factory=list)
    """Combinations to leave out: a variant with all the settings of one of these is not run."""
    baseline: str | None = None
    """The variant that all others are compared with. Left out: the first."""
    seeds: tuple[Whole, ...] = (1, 2, 3)
    """Values of run.seed; fewer than 3 never decide anything."""
    processes: Whole = Field(default=1, gt=0)
    """Ranks a host."""
    hosts: Whole = Field(default=1, gt=0)
    """Hosts of one run; more than 1 only under Slurm."""
    constraints: tuple[Constraint, ...] = ("equal_tokens",)
    """What the baseline lays down for all variants: their length (one of equal_tokens, equal_active_flops,
    equal_wall_clock) and, with largest_that_fits, each variant's own micro batch."""
    time: Literal["wall_clock", "cpu_seconds"] = "wall_clock"
    """Which time decides whether a variant pays: wall-clock, or the CPU seconds of all ranks. For runs on CPUs that have
    other work to do: that slows a run down, but hardly changes how many CPU seconds it needs."""
    wall_clock_seconds: Real | None = Field(default=None, gt=0)
    """Training time under equal_wall_clock. Left out: what the baseline is predicted to take."""
    memory_limit_gib: Real | None = Field(default=None, gt=0)
    """Memory that one process may take (RLIMIT_DATA); a variant that wants more ends with 76 instead of bringing the
    host down. For CPUs; a GPU has its own limit."""
    indifference: Real = Field(default=0.001, ge=0)
    """Bits per byte; an interval that lies within plus and minus this is called the same."""
    confidence: Real = Field(default=0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    probe: Probe = Field(default_factory=Probe)
    search: Search | None = None

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        return check_run_name(name)

    @field_validator("variants")
    @classmethod
    def _variants_are_file_names(cls, variants: dict[str, Settings]) -> dict[str, Settings]:
        for name in variants:
            check_run_name(name)
        return variants

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"expected one or more different numbers, found {list(seeds)}")
        return seeds

    @field_validator("constraints")
    @classmethod
    def _one_length(cls, constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        lengths = [name for name in constraints if name in LENGTHS]
        if len(lengths) > 1:
            raise ValueError(f"{' and '.join(lengths)} cannot hold at once; keep one")
        return constraints

    @model_validator(mode="after")
    def _search_needs_no_probes(self) -> "Grid":
        wrong = [name for name in self.constraints if name in ("equal_wall_clock", "largest_that_fits")]
        if self.search is not None and wrong:
            raise ValueError(f"search cannot go with {' and '.join(wrong)}: its variants are not known before they run")
        if self.search is not None and self.search.space.keys() & self.axes.keys():
            raise ValueError(f"{sorted(self.search.space.keys() & self.axes.keys())[0]} is an axis and in search.space")
        return self

    @property
    def length_constraint(self) -> Constraint | None:
        """What decides each variant's steps; None leaves them as the settings say."""
        return next((name for name in self.constraints if name in LENGTHS), None)

    @property
    def fits_micro_batch(self) -> bool:
        """Whether each variant's micro batch is found by trying."""
        return "largest_that_fits" in self.constraints

    @property
    def world_size(self) -> int:
        """Ranks of one run."""
        return self.processes * self.hosts
