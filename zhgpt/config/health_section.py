"""The health section: what a run does about a spike, and what it measures to tell whether it is well."""

from typing import Literal

from pydantic import Field

from zhgpt.config.section import Section, Switch, Whole


class HealthSection(Section):
    """What the run watches in itself, and what it does about a spike (docs/health.md)."""

    on_spike: Literal["warn", "skip", "lower_rate", "roll_back"] = "warn"
    """What to do when loss or gradient norm of a step jump, or are no finite numbers: `warn` says so; `skip` leaves the
    update out; `lower_rate` leaves it out and halves the learning rate from there on; `roll_back` goes back to the newest
    checkpoint and skips the samples read since. All but `warn` look at each step before its update, and wait for the
    device to do so."""
    update_ratios: Switch = True
    """Whether each layer's update-to-weight ratio is measured on the steps that write a metrics line."""
    memorisation_tokens: Whole = Field(default=2_000_000, ge=0)
    """Tokens of the training text that each evaluation's text samples are searched in for copies; 0: no search."""
