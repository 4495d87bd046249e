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
    """

    step: PreparedStep
    before: str
    outcome: Outcome

    @property
    def failed(self) -> Measure | None:
        """The measure that drops the text, or None."""
        return self.outcome.failed


def prepare_steps(steps: Mapping[str, StepSettings]) -> tuple[PreparedStep, ...]:
    """Makes the steps of a recipe ready, in their order; reads lists and evaluation sets.

    Raises:
        UserError: What a step's ``prepare`` raises.
    """
    return tuple(PreparedStep(label, STEPS[kind_of(label)].prepare(settings)) for label, settings in steps.items())


def stages(steps: Sequence[PreparedStep], text: str, fields: Mapping[str, Any]) -> Iterator[Stage]:
    """Yields what each step did, up to and with the one that drops the text."""
    for step in steps:
        stage = Stage(step, text, step.run(text, fields))
        yield stage
        if stage.failed is not None:
            return
        text = stage.outcome.text
