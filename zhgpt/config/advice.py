"""Warnings before a run: what it cannot reach, and which settings are those of another kind of training."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.deepspeed_json import is_optimizer_offloaded
from zhgpt.config.derived import at_base_width, peak_learning_rate, warmup_steps
from zhgpt.config.fits import learning_rate_for
from zhgpt.config.quantities import count_text
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.config.zero_rules import Accelerator, offload_device, zero_stage

GPT3_LEARNING_RATES: tuple[tuple[float, float], ...] = (
    (125e6, 6.0e-4),
    (350e6, 3.0e-4),
    (760e6, 2.5e-4),
    (1.3e9, 2.0e-4),
    (2.7e9, 1.6e-4),
    (6.7e9, 1.2e-4),
    (13e9, 1.0e-4),
    (175e9, 0.6e-4),
)
"""Parameters and peak learning rate of GPT-3's sizes: Brown et al. 2020, table 2.1."""

RATE_FACTOR = 5.0
"""A learning rate further than this from the size's usual one is warned of."""

FIT_FACTOR = 2.0
"""A learning rate above the usual one's range is not warned of up to this many times what `zhgpt.config.fits` gives."""

FINE_TUNING_RATE = 5e-5
"""At and below this, a learning rate is one that fine-tunes a trained model."""

TOKENS_PER_PARAMETER = 20.0
"""Hoffmann et al. 2022 ("Chinchilla"): about 20 tokens a parameter use a given compute best."""

NEAR_ENOUGH = 0.9
"""A run with this share of the usual tokens a parameter is not warned of."""

USEFUL_EPOCHS = 4.0
"""Muennighoff et al. 2023: up to about 4 passes, repeated tokens are almost as good as new ones."""

OPTIMIZER_BYTES = 12
"""fp32 weights and Adam's two moments, bytes a parameter."""

SMALL_OPTIMIZER_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class SourceReading:
    """What a run, or a phase of it, takes from one source of a blend.

    Attributes:
        name: of the source.
        tokens: of its train split.
        samples: how many of the run's samples come from it.
        read_tokens: tokens in these.
        epochs: how often that reads it.
    """

    name: str
    tokens: int
    samples: int
    read_tokens: int
    epochs: float


@dataclass(frozen=True, slots=True)
class RunNumbers:
    """Sizes that config does not compute itself.

    Attributes:
        parameters: all parameters of the model in training, tied tables once.
        embedding_parameters: those in tables (tokens, positions, an untied head).
        flops_per_token: forward and backward.
        train_tokens: tokens of the train split, of all sources together; None when no dataset was read.
        sources: what a blend takes from each of its sources; empty for one dataset.
        active_parameters: of a mixture of experts those that a token passes; None: all.
    """

    parameters: int
    embedding_parameters: int
    flops_per_token: int
    train_tokens: int | None = None
    sources: tuple[SourceReading, ...] = ()
    active_parameters: int | None = None

    @property
    def non_embedding(self) -> int:
        """Parameters in layers: what published fits count."""
        return self.parameters - self.embedding_parameters

    @property
    def active(self) -> int:
        """Parameters that a token passes: what tokens a parameter and learning rates are counted by."""
        return self.parameters if self.active_parameters is None else self.active_parameters


def warnings_for(
    config: RunConfig,
    plan: BatchPlan,
    model: ModelSection,
    ds_json: Mapping[str, Any],
    numbers: RunNumbers,
    *,
    accelerator: Accelerator = "cuda",
) -> list[str]:
    """Warnings about a run that can start but will hardly do what its owner wants; a sentence or two each."""
    return [
        *_data_warnings(plan, numbers),
        *_optimizer_warnings(config, plan, numbers),
        *_model_warnings(config, model, numbers),
        *_hardware_warnings(config, plan, ds_json, numbers, accelerator),
    ]


def usual_learning_rate(parameters: int) -> float:
    """Peak learning rate that pretraining usually takes at a model size.

    From 125M parameters on, GPT-3's table, interpolated on logarithmic axes; below it 0.003239 - 0.0001395 ln(N)
    (Kaplan et al. 2020, appendix D.6), which meets the table at its first row to within 10 %.
    """
    smallest, largest = GPT3_LEARNING_RATES[0], GPT3_LEARNING_RATES[-1]
    if parameters < smallest[0]:
        return max(smallest[1], 0.003239 - 0.0001395 * math.log(max(1, parameters)))
    if parameters >= largest[0]:
        return largest[1]
    for (low, low_rate), (high, high_rate) in itertools.pairwise(GPT3_LEARNING_RATES):
        if parameters <= high:
            share = math.log(parameters / low) / math.log(high / low)
            return math.exp(math.log(low_rate) * (1 - share) + math.log(high_rate) * share)
    raise AssertionError("the table covers every size between its first and last row")


def _kind(numbers: RunNumbers) -> str:
    return "" if numbers.active == numbers.parameters else "active "


def _data_warnings(plan: BatchPlan, numbers: RunNumbers) -> Iterator[str]:
    last = plan.reached_stages[-1]
    if last != plan.stages[-1]:
        yield (
            f"the run ends after step {plan.steps:,}, before its ramp does: at {last.global_batch_size} of "
            f"{plan.global_batch_size} sequences a step and rows of {last.sequence_length} of {plan.sequence_length} tokens."
        )
    ratio = plan.total_tokens / numbers.active
    if ratio < TOKENS_PER_PARAMETER * NEAR_ENOUGH:
        steps = math.ceil(TOKENS_PER_PARAMETER * numbers.active / plan.tokens_per_step)
        meaning = (
            "so little teaches which tokens are frequent and not much else: expect repetition"
            if ratio < 1
            else "the model will be undertrained, and more tokens improve it more than any other setting"
        )
        yield (
            f"the run trains {count_text(numbers.active)} {_kind(numbers)}parameters on {count_text(plan.total_tokens)} tokens: "
            f"{ratio:.2g} tokens a parameter where about {TOKENS_PER_PARAMETER:.0f} is usual (Hoffmann et al. 2022); "
            f"{meaning}. About {steps:,} steps of this batch would reach it, or a smaller model."
        )
    if numbers.sources:
        yield from source_warnings(numbers.sources)
        return
    if numbers.train_tokens is None:
        return
    epochs = plan.total_tokens / numbers.train_tokens
    if epochs > USEFUL_EPOCHS:
        most = int(USEFUL_EPOCHS * numbers.train_tokens / plan.tokens_per_step)
        instead = (
            f"Add text, or stay near {most:,} steps." if most > 1 else "Add text: this is less than one batch of it."
        )
        yield (
            f"the run reads the data {epochs:.3g} times ({count_text(plan.total_tokens)} tokens of "
            f"{count_text(numbers.train_tokens)}); beyond about {USEFUL_EPOCHS:.0f} passes repeats teach little and "
            f"are learnt by heart (Muennighoff et al. 2023). {instead}"
        )
    elif epochs > 1:
        yield (
            f"the run wants {count_text(plan.total_tokens)} tokens and the data has "
            f"{count_text(numbers.train_tokens)}: each is read {epochs:.3g} times."
        )


def source_warnings(sources: Sequence[SourceReading]) -> Iterator[str]:
    """A sentence for each source of a blend that is read more often than repeats are worth."""
    for source in sources:
        if source.epochs > USEFUL_EPOCHS:
            yield (
                f"the run reads {source.name} {source.epochs:.3g} times ({count_text(source.read_tokens)} tokens of "
                f"{count_text(source.tokens)}); beyond about {USEFUL_EPOCHS:.0f} passes repeats teach little and are learnt "
                "by heart (Muennighoff et al. 2023). Give it less weight, or more text."
            )


def _optimizer_warnings(config: RunConfig, plan: BatchPlan, numbers: RunNumbers) -> Iterator[str]:
    base = config.model.mup_base_width
    size, fitted = at_base_width(config, numbers.active), at_base_width(config, numbers.non_embedding)
    rate, usual = peak_learning_rate(config, plan, numbers.non_embedding), usual_learning_rate(size)
    low, high = usual / RATE_FACTOR, usual * RATE_FACTOR
    # Later fits of swept rates lie above GPT-3's table for small models: what they give is not called high.
    if rate < low or rate > max(high, FIT_FACTOR * learning_rate_for(fitted, plan.total_tokens)):
        kind = "a fine-tuning value" if rate <= FINE_TUNING_RATE else "low" if rate < low else "high"
        outcome = "the model would hardly learn" if rate < low else "the loss may diverge"
        source = "GPT-3's table" if size >= GPT3_LEARNING_RATES[0][0] else "Kaplan et al. 2020"
        counted = f"{_kind(numbers)}parameters" + ("" if base is None else f" at the base width {base} (muP)")
        yield (
            f"optim.learning_rate {rate:g} is {kind} for {count_text(size)} {counted}: pretraining "
            f"takes about {usual:.1e} ({source}), {low:.0e} to {high:.0e} at most; {outcome}."
        )
    yield from _schedule_warnings(config, plan, rate)
    if config.optim.weight_decay == 0:
        yield "optim.weight_decay is 0: 0.1 is usual in pretraining and keeps long runs stable."
    if config.optim.gradient_clipping == 0:
        yield "optim.gradient_clipping is 0: one bad batch can undo the run; 1.0 is usual."


def _schedule_warnings(config: RunConfig, plan: BatchPlan, rate: float) -> Iterator[str]:
    steps, schedule, warmup = config.train.steps, config.schedule, warmup_steps(config, plan)
    if schedule.name == "range_test":
        yield "schedule.name range_test drives the learning rate up until the loss diverges: nothing trains this way."
        return
    if warmup == 0:
        yield "schedule.warmup_steps is 0: the first steps take the full learning rate while Adam's averages are empty."
    decay_steps, is_branch = schedule.decay_steps(steps), config.train.branch_from is not None
    if warmup >= steps > 1:
        reached = rate * steps / warmup
        yield (
            f"schedule.warmup_steps {warmup} is not less than train.steps {steps}: the run ends inside its "
            f"warm-up, at a learning rate of {reached:.2g} instead of {rate:g}."
        )
    elif schedule.name == "wsd" and warmup + decay_steps > steps and not is_branch:
        yield (
            f"schedule wsd: warmup_steps {warmup} + decay of {decay_steps} steps (decay_fraction "
            f"{schedule.decay_fraction:g}) exceed train.steps {steps}: the rate falls at once where the warm-up ends."
        )


def _model_warnings(config: RunConfig, model: ModelSection, numbers: RunNumbers) -> Iterator[str]:
    share = numbers.embedding_parameters / numbers.parameters
    if share > 0.6:
        yield (
            f"{100 * share:.0f} % of the parameters are the vocabulary's tables ({model.vocab_size:,} ids): a smaller "
            "vocabulary or a wider model would spend them better."
        )
    maximum = model.max_position_embeddings
    if maximum is not None and maximum > config.data.sequence_length:
        yield (
            f"model.max_position_embeddings {maximum} exceeds data.sequence_length {config.data.sequence_length}: "
            "positions past the latter are never trained."
        )


def _hardware_warnings(
    config: RunConfig, plan: BatchPlan, ds_json: Mapping[str, Any], numbers: RunNumbers, accelerator: Accelerator
) -> Iterator[str]:
    stage, ranks = zero_stage(ds_json), plan.data_parallel_size
    if accelerator == "cuda" and config.train.precision == "fp32":
        yield "train.precision fp32 on a GPU leaves its bf16 units idle; bf16 is usual in pretraining."
    offloaded = is_optimizer_offloaded(ds_json)
    if stage >= 2 and ranks == 1 and not offloaded and offload_device(ds_json, "offload_param") == "none":
        yield f"ZeRO stage {stage} on one rank splits nothing and costs time; ds_configs/zero1.json does the same work."
    saved = OPTIMIZER_BYTES * numbers.parameters // ranks
    if accelerator == "cuda" and offloaded and saved < SMALL_OPTIMIZER_BYTES:
        yield (
            f"the offloaded optimizer states are {saved / 2**30:.1f} GiB a rank: where they fit, the same stage "
            "without offload saves the way to the host and back."
        )
