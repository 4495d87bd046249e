"""The recipe of a cleaning: inputs, a chain of named steps, deduplication, output. Unknown keys are refused."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from megatron_style_data.cleaning.recipe_problems import place_of, problem_sentences, unknown_name
from megatron_style_data.cleaning.steps import STEPS, StepSettings
from megatron_style_data.errors import SettingError
from megatron_style_data.readers import ReadOptions


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSection(Section):
    """Files of one source."""

    path: str = Field(description="A file, a folder, a glob, or hf://NAME.")
    source: str | None = Field(
        default=None, description="Name in the ledger; null: by source_field, else the file's name."
    )
    source_field: str | None = Field(default=None, description="The record's field that names the source.")
    source_pattern: str | None = Field(
        default=None,
        description="A regular expression; what it finds in source_field is the name (^[^:]+: up to a colon).",
    )
    license: str | None = Field(default=None, description="Licence of the texts; null: the record's field license.")
    format: str = Field(default="auto", description="A format of zhgpt corpus read; auto: by name and content.")
    text_field: str | None = Field(
        default=None, description="JSON field or column of the text; null: text, else content."
    )
    text_documents: Literal["file", "blank-line"] = Field(
        default="file", description="What a document of a text file is."
    )
    encoding: Literal["utf-8", "gb18030", "auto"] = Field(default="utf-8", description="Of text and JSON files.")
    min_score: float | None = Field(default=None, description="Documents with a lower field score are left out.")
    skip_repeated_paragraphs: bool = Field(default=False, description="Leave out what MNBVC marks as repeated.")
    max_bad: int | None = Field(default=None, ge=0, description="Most lines that cannot be read; null: no limit.")
    on_bad: Literal["skip", "refuse"] = Field(default="skip", description="What happens to lines that cannot be read.")

    @field_validator("source_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        return value

    def read_options(self) -> ReadOptions:
        """How its files are to be read."""
        return ReadOptions(
            text_field=self.text_field,
            on_bad=self.on_bad,
            text_documents=self.text_documents,
            encoding=self.encoding,
            min_score=self.min_score,
            skip_repeated_paragraphs=self.skip_repeated_paragraphs,
            max_bad=self.max_bad,
        )


class DeduplicateSection(Section):
    """Removing duplicates, after the steps."""

    exact: bool = Field(default=True, description="Texts that are the same, character by character.")
    near: bool = Field(default=True, description="Texts that share most of their character n-grams (MinHash).")
    threshold: float = Field(
        default=0.8, gt=0, le=1, description="Jaccard similarity from which texts are near-duplicates."
    )
    permutations: int = Field(default=128, ge=16, le=1024, description="Hash functions of a signature.")
    shingle: int = Field(default=5, ge=1, le=50, description="Characters of an n-gram.")
    keep: Literal["longest", "first"] = Field(default="longest", description="Which text of a cluster stays.")


class SlurmSection(Section):
    """How datatrove submits the tasks to Slurm."""

    partition: str = Field(description="Partition of the jobs.")
    time: str = Field(default="04:00:00", description="Time limit of a job.")
    cpus_per_task: int = Field(default=2, ge=1, description="Cores of the last job, which finds duplicates.")
    memory_gb_per_cpu: int = Field(default=4, ge=1, description="Memory a core.")
    qos: str = Field(default="", description="Quality of service; empty: the cluster's default.")
    jobs_at_once: int = Field(-1, description="Most jobs that run at the same time; -1: no limit.")


class Recipe(Section):
    """A whole recipe."""

    name: str = Field(default="corpus", min_length=1, description="What the ledger calls the corpus.")
    inputs: tuple[InputSection, ...] = Field(min_length=1, description="The sources, in their order.")
    steps: Mapping[str, StepSettings] = Field(description="The steps, in the order they are written.")
    deduplicate: DeduplicateSection | None = Field(default=None, description="Null: duplicates stay.")
    tokenizer: str | None = Field(default=None, description="Counts tokens of what stays; null: no counts.")
    output: Path | None = Field(default=None, description="The folder to write; --output goes before it.")
    executor: Literal["local", "slurm"] = Field(default="local", description="Where the tasks run.")
    slurm: SlurmSection | None = Field(default=None, description="Needed by executor slurm.")
    task_bytes: int = Field(
        default=64 << 20, ge=1 << 10, description="Text a task, about; decides the shards of the output."
    )
    samples_a_step: int = Field(default=200, ge=0, le=100_000, description="Dropped and changed texts to keep, a step.")
    sample_characters: int = Field(default=1000, ge=20, description="Longest text of a sample.")


def kind_of(label: str) -> str:
    """The kind of a step by its label: ``length`` and ``length@end`` are both ``length``."""
    return label.split("@")[0]


def _step(label: str, settings: Any) -> StepSettings:
    return STEPS[kind_of(label)].settings.model_validate({} if settings is None else settings)


def load_recipe(value: Any, origin: str, lines: Mapping[str, int] | None = None) -> Recipe:
    """Checks a recipe.

    Args:
        value: What the YAML file holds.
        origin: Its name, for messages.
        lines: Line of each key by its dotted name, for messages.

    Raises:
        SettingError: One sentence for each thing that is wrong.
    """
    if not isinstance(value, Mapping):
        raise SettingError(f"{origin}: expected a recipe with inputs and steps, found {type(value).__name__}.")
    known = dict(value)
    problems: list[str] = []
    steps = known.get("steps")
    if isinstance(steps, Mapping):
        typed: dict[str, StepSettings] = {}
        for label, settings in steps.items():
            problems += _step_problems(str(label), settings, origin, lines or {}, typed)
        known["steps"] = typed
    try:
        recipe = Recipe.model_validate(known)
    except ValidationError as error:
        problems += problem_sentences(error, Recipe, "", origin, lines or {})
    else:
        if not steps:
            problems.append(f"{origin}: steps: no step; name at least one, such as length")
        if recipe.executor == "slurm" and recipe.slurm is None:
            problems.append(f"{origin}: executor slurm needs a section slurm with at least its partition")
    if problems:
        raise SettingError("\n".join(problems))
    return recipe


def _step_problems(
    label: str, settings: Any, origin: str, lines: Mapping[str, int], typed: dict[str, StepSettings]
) -> Sequence[str]:
    """Adds a checked step to ``typed``, or says what is wrong with it."""
    where = place_of(origin, lines, f"steps.{label}")
    if kind_of(label) not in STEPS:
        return [f"{where}: unknown step {unknown_name(kind_of(label), list(STEPS))}"]
    if settings is not None and not isinstance(settings, Mapping):
        return [f"{where}: steps.{label}: expected settings below it or nothing, found {settings!r}"]
    try:
        typed[label] = _step(label, settings)
    except ValidationError as error:
        model = STEPS[kind_of(label)].settings
        return problem_sentences(error, model, f"steps.{label}.", origin, lines)
    return []
