"""Runs a text through the steps of a recipe: what each measured, and which one dropped it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.recipe import kind_of
from megatron_style_data.cleaning.steps import STEPS, StepSettings


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """A step that is ready to run: its label in the recipe and its function."""

    label: str
    run: StepFunction


@dataclass(frozen=True, slots=True)
class Stage:
    """What one step did to one text.

    Attributes:
        step: The step.
        before: The text it got.
        outcome: What it made of it.
        failed: The measure that drops the text, or None.
    """

    step: PreparedStep
    before: str
    outcome: Outcome
    failed: Measure | None


def prepare_steps(steps: Mapping[str, StepSettings]) -> tuple[PreparedStep, ...]:
    """Makes the steps of a recipe ready, in their order; reads lists and evaluation sets.

    Raises:
        UserError: What a step's ``prepare`` raises.
    """
    return tuple(PreparedStep(label, STEPS[kind_of(label)].prepare(settings)) for label, settings in steps.items())


def stages(steps: Sequence[PreparedStep], text: str, fields: Mapping[str, Any]) -> Iterator[Stage]:
    """Yields what each step did, up to and with the one that drops the text."""
    for step in steps:
        outcome = step.run(text, fields)
        failed = outcome.failed
        yield Stage(step, text, outcome, failed)
        if failed is not None:
            return
        text = outcome.text
