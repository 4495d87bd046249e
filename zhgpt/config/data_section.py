"""The data section of RunConfig: one dataset or a blend of several, and how samples are cut from them."""

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field

from zhgpt.config.section import Real, Section, Switch, Whole
from zhgpt.config.stage_sections import ShortRowsStage


class BlendSource(Section):
    """One dataset of a blend."""

    data: str = Field(min_length=1)
    """Prefix of the indexed dataset."""
    weight: Real | None = Field(default=None, ge=0)
    """Share of the samples, in any unit: 6, 3 and 1 are 60, 30 and 10 %. 0: not read until a phase says so."""
    epochs: Real | None = Field(default=None, ge=0)
    """Instead of a weight: how often this source is read when every source is read as often as it says."""
    name: str | None = Field(default=None, min_length=1)
    """Its name in phases, tables and metrics. Left out: the last part of the prefix."""

    @property
    def label(self) -> str:
        """`name`, or the last part of the prefix."""
        return self.name if self.name is not None else PurePath(self.data).name


class BlendPhase(Section):
    """Other weights from some step on."""

    from_step: Whole | None = Field(default=None, gt=0)
    """The first step with these weights."""
    from_fraction: Real | None = Field(default=None, gt=0, lt=1)
    """Instead of a step: where it lies in train.steps, 0.9 for the last tenth."""
    weights: dict[str, Annotated[Real, Field(ge=0)]]
    """Weights by the sources' names; a source left out is not read."""

    def first_step(self, steps: int) -> int:
        """The first step with these weights in a run of `steps` steps."""
        return self.from_step if self.from_step is not None else round((self.from_fraction or 0) * steps)


class DataSection(Section):
    """The indexed dataset, or a blend of several, and how samples are cut from it."""

    train: str | None = Field(default=None, min_length=1)
    """Prefix of the indexed dataset (`PREFIX.bin`, `PREFIX.idx`, `PREFIX.meta.json`). Give this or data.blend."""
    blend: tuple[BlendSource, ...] | None = None
    """Several datasets read as one (docs/blends.md). With neither weights nor epochs, by their size. Give this or
    data.train."""
    temperature: Real = Field(default=1.0, gt=0)
    """For a blend by size: weights are tokens to the power 1 / temperature; above 1 small sources are read more."""
    phases: tuple[BlendPhase, ...] = ()
    """Other weights of the blend from some step on: a curriculum, better text at the end."""
    sequence_length: Whole = Field(default=1024, ge=2)
    """Tokens a sample feeds to the model."""
    sequence_length_warmup: tuple[ShortRowsStage, ...] = ()
    """Short rows first: at the start of the run each sample is cut into several rows of a divisor of sequence_length, up to a
    step or a number of tokens. Which samples a step consumes does not change."""
    packing: Literal["concatenate", "best_fit"] = "concatenate"
    """How documents are put into samples: `concatenate` cuts one long text, nothing is padded, nothing is cut away;
    `best_fit` keeps documents whole that fit a sample, and pads a little."""
    order: Literal["index_free", "megatron"] = "index_free"
    """Order of the samples: `index_free` is computed as it is asked for; `megatron` is Megatron-LM's, bit for bit."""
    prefetch: Whole = Field(default=8, ge=0)
    """Micro batches that a background thread assembles ahead; 0: each is assembled when it is wanted. Does not change
    what is trained."""
    tokenizer: str | None = None
    """Tokenizer folder or file. Left out: the one recorded in the dataset's manifest."""
    attend_across_documents: Switch = False
    """Whether tokens may attend to earlier documents packed into the same sample."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of all datasets."""
        if self.blend is not None:
            return tuple(source.data for source in self.blend)
        return (self.train,) if self.train is not None else ()
