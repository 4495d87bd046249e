"""The schedule section of RunConfig: the learning rate as a function of the step."""

from typing import Literal

from pydantic import Field

from zhgpt.config.section import Real, Section, Whole


class ScheduleSection(Section):
    """The learning rate as a function of the step (docs/schedules.md)."""

    name: Literal["cosine", "wsd", "constant", "range_test"] = "wsd"
    """Shape after the warm-up: cosine decay, warm-up-stable-decay, or constant. `range_test` rises exponentially from
    minimum_ratio x the peak to the peak: for `zhgpt plan lr`, not for training."""
    warmup_steps: Whole | None = Field(default=None, ge=0)
    """Steps of linear warm-up. Left out: 2 % of train.steps, at least 1 and at most 2000. Give this or warmup_tokens."""
    warmup_tokens: Whole | None = Field(default=None, gt=0)
    """Instead of warmup_steps: the warm-up ends with the step that brings the consumed tokens to this number."""
    minimum_ratio: Real = Field(default=0.02, ge=0, le=1)
    """Last learning rate as a share of the peak (cosine, wsd)."""
    decay_fraction: Real = Field(default=0.3, gt=0, le=1)
    """Share of train.steps in which wsd decays. A branch (train.branch_from) decays from its first step on instead."""
    decay_shape: Literal["linear", "one_minus_sqrt"] = "linear"
    """How wsd decays: in a straight line, or fast at first and slower towards the end (Haegele et al. 2024)."""

    @property
    def warmup(self) -> int:
        """Steps of warm-up (resolved schedule only)."""
        assert self.warmup_steps is not None, "warm-up of a schedule that is not resolved"
        return self.warmup_steps

    def decay_steps(self, steps: int) -> int:
        """Steps in which wsd decays, of `steps` in all."""
        return max(1, round(steps * self.decay_fraction))

    def stable_steps(self, steps: int) -> int | None:
        """Steps of wsd before its rate falls: after so many steps lies the checkpoint to branch from. None: another shape."""
        return max(0, steps - self.decay_steps(steps)) if self.name == "wsd" else None
