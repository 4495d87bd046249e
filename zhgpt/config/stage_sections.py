"""Stages at the start of a run, each up to a step or a number of tokens: smaller batches, shorter rows."""

from pydantic import Field

from zhgpt.config.section import Section, Whole


class BatchRampStage(Section):
    """A smaller global batch up to some point of the run."""

    global_batch_tokens: Whole | None = Field(default=None, gt=0)
    """Tokens of a step in this stage. Give this or global_batch_size."""
    global_batch_size: Whole | None = Field(default=None, gt=0)
    """Sequences of a step in this stage. Give this or global_batch_tokens."""
    until_step: Whole | None = Field(default=None, gt=0)
    """The first step after this stage. Give this or until_tokens."""
    until_tokens: Whole | None = Field(default=None, gt=0)
    """The stage ends with the step that brings the tokens consumed since step 0 to this number. Give this or until_step."""


class ShortRowsStage(Section):
    """Samples cut into shorter rows up to some point of the run."""

    sequence_length: Whole = Field(ge=2)
    """Tokens of a row in this stage; divides data.sequence_length."""
    until_step: Whole | None = Field(default=None, gt=0)
    """The first step after this stage. Give this or until_tokens."""
    until_tokens: Whole | None = Field(default=None, gt=0)
    """The stage ends with the step that brings the tokens consumed since step 0 to this number. Give this or until_step."""
