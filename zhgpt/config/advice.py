"""Warnings before a run: what it cannot reach, and which settings are those of another kind of training.

Each is one rule with two texts: English for the console, both for ``zhgpt plan``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.deepspeed_json import is_optimizer_offloaded
from zhgpt.config.quantities import count_text
from zhgpt.config.rate_advice import optimizer_advice
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.config.sentence import Sentence
from zhgpt.config.usual_rates import judge_rates
from zhgpt.config.zero_rules import Accelerator, offload_device, zero_stage

TOKENS_PER_PARAMETER = 20.0
"""Hoffmann et al. 2022 ("Chinchilla"): about 20 tokens a parameter use a given compute best."""

NEAR_ENOUGH = 0.9
"""A run with this share of the usual tokens a parameter is not warned of."""

USEFUL_EPOCHS = 4.0
"""Muennighoff et al. 2023: up to about 4 passes, repeated tokens are almost as good as new ones."""

SEVERAL_EPOCHS = "several_epochs"
"""Kind of the sentence about more than one and at most four passes, which is no fault."""

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


def advice_for(
    config: RunConfig,
    plan: BatchPlan,
    model: ModelSection,
    ds_json: Mapping[str, Any],
    numbers: RunNumbers,
    *,
    accelerator: Accelerator = "cuda",
) -> list[Sentence]:
    """What should be said of a run that can start but will hardly do what its owner wants; a sentence or two each."""
    rates = judge_rates(config, plan, numbers.active, numbers.non_embedding)
    is_to_train = config.schedule.name != "range_test"  # which ends long before it has seen enough, on purpose
    return [
        *_ramp_advice(plan),
        *(_token_advice(plan, numbers) if is_to_train else ()),
        *_epoch_advice(plan, numbers),
        *optimizer_advice(config, plan, rates, numbers.active != numbers.parameters),
        *_model_advice(config, model, numbers),
        *_hardware_advice(config, plan, ds_json, numbers, accelerator),
    ]


def _ramp_advice(plan: BatchPlan) -> Iterator[Sentence]:
    last = plan.reached_stages[-1]
    if last != plan.stages[-1]:
        yield Sentence(
            "ends_in_ramp",
            f"the run ends after step {plan.steps:,}, before its ramp does: at {last.global_batch_size} of "
            f"{plan.global_batch_size} sequences a step and rows of {last.sequence_length} of {plan.sequence_length} tokens.",
            f"训练在第 {plan.steps:,} 步结束，而 batch 或序列长度还没有增长完：每步 {last.global_batch_size} 条序列（共 "
            f"{plan.global_batch_size}），每行 {last.sequence_length} 个 token（共 {plan.sequence_length}）。",
        )


def _token_advice(plan: BatchPlan, numbers: RunNumbers) -> Iterator[Sentence]:
    ratio = plan.total_tokens / numbers.active
    if ratio >= TOKENS_PER_PARAMETER * NEAR_ENOUGH:
        return
    steps = plan.steps_reaching(math.ceil(TOKENS_PER_PARAMETER * numbers.active))
    meaning, meaning_zh = (
        "the model will be undertrained, and more tokens improve it more than any other setting",
        "模型会训练不足，增加 token 比任何其他设置都更有用",
    )
    if ratio < 1:
        meaning, meaning_zh = (
            "so few leave a model far from what its size can learn: expect repetition",
            "这么少的 token 远远发挥不出这个大小的模型：生成的文字会重复",
        )
    active, active_zh = ("", "") if numbers.active == numbers.parameters else ("active ", "激活")
    parameters, tokens = count_text(numbers.active), count_text(plan.total_tokens)
    yield Sentence(
        "few_tokens",
        f"the run trains {parameters} {active}parameters on {tokens} tokens: "
        f"{ratio:.2g} tokens a parameter where about {TOKENS_PER_PARAMETER:.0f} is usual (Hoffmann et al. 2022); "
        f"{meaning}. About {steps:,} steps of this batch would reach it, or a smaller model.",
        f"{parameters} {active_zh}参数训练 {tokens} 个 token：每个参数 {ratio:.2g} 个 token，通常约 "
        f"{TOKENS_PER_PARAMETER:.0f} 个（Hoffmann et al. 2022）；{meaning_zh}。"
        f"按这个 batch 大约需要 {steps:,} 步，或换更小的模型。",
    )


def _epoch_advice(plan: BatchPlan, numbers: RunNumbers) -> Iterator[Sentence]:
    if numbers.sources:
        yield from source_advice(numbers.sources)
        return
    if numbers.train_tokens is None:
        return
    epochs = plan.total_tokens / numbers.train_tokens
    wanted, there = count_text(plan.total_tokens), count_text(numbers.train_tokens)
    if epochs > USEFUL_EPOCHS:
        most = plan.steps_within(int(USEFUL_EPOCHS * numbers.train_tokens))
        instead, instead_zh = (
            (f"Add text, or stay near {most:,} steps.", f"请增加语料，或只训练约 {most:,} 步。")
            if most > 1
            else ("Add text: this is less than one batch of it.", "请增加语料：现在还不到一个 batch。")
        )
        yield Sentence(
            "many_epochs",
            f"the run reads the data {epochs:.3g} times ({wanted} tokens of {there}); beyond about {USEFUL_EPOCHS:.0f} passes "
            f"repeats teach little and are learnt by heart (Muennighoff et al. 2023). {instead}",
            f"语料要读 {epochs:.3g} 遍（{wanted} 个 token，语料共 {there}）；超过约 {USEFUL_EPOCHS:.0f} 遍，"
            f"重复几乎学不到新东西，只会背诵（Muennighoff et al. 2023）。{instead_zh}",
        )
    elif epochs > 1:
        yield Sentence(
            SEVERAL_EPOCHS,
            f"the run wants {wanted} tokens and the data has {there}: each is read {epochs:.3g} times.",
            f"训练需要 {wanted} 个 token，语料有 {there}：每个要读 {epochs:.3g} 遍。",
        )


def source_advice(sources: Sequence[SourceReading]) -> Iterator[Sentence]:
    """A sentence for each source of a blend that is read more often than repeats are worth."""
    for source in sources:
        if source.epochs > USEFUL_EPOCHS:
            read, there = count_text(source.read_tokens), count_text(source.tokens)
            yield Sentence(
                "many_epochs",
                f"the run reads {source.name} {source.epochs:.3g} times ({read} tokens of {there}); beyond about "
                f"{USEFUL_EPOCHS:.0f} passes repeats teach little and are learnt by heart (Muennighoff et al. 2023). Give it "
                "less weight, or more text.",
                f"{source.name} 要读 {source.epochs:.3g} 遍（{read} 个 token，共 {there}）；超过约 {USEFUL_EPOCHS:.0f} 遍，"
                "重复几乎学不到新东西，只会背诵（Muennighoff et al. 2023）。请降低它的权重，或增加语料。",
            )


def _model_advice(config: RunConfig, model: ModelSection, numbers: RunNumbers) -> Iterator[Sentence]:
    share = numbers.embedding_parameters / numbers.parameters
    if share > 0.6:
        yield Sentence(
            "mostly_vocabulary",
            f"{100 * share:.0f} % of the parameters are the vocabulary's tables ({model.vocab_size:,} ids): a smaller "
            "vocabulary or a wider model would spend them better.",
            f"{100 * share:.0f} % 的参数在词表（{model.vocab_size:,} 个 id）：更小的词表或更宽的模型能更好地利用它们。",
        )
    maximum, length = model.max_position_embeddings, config.data.sequence_length
    if maximum is not None and maximum > length:
        yield Sentence(
            "untrained_positions",
            f"model.max_position_embeddings {maximum} exceeds data.sequence_length {length}: "
            "positions past the latter are never trained.",
            f"model.max_position_embeddings {maximum} 超过 data.sequence_length {length}：超出后者的位置永远得不到训练。",
        )


def _hardware_advice(
    config: RunConfig, plan: BatchPlan, ds_json: Mapping[str, Any], numbers: RunNumbers, accelerator: Accelerator
) -> Iterator[Sentence]:
    stage, ranks = zero_stage(ds_json), plan.data_parallel_size
    if accelerator == "cuda" and config.train.precision == "fp32":
        yield Sentence(
            "fp32_on_gpu",
            "train.precision fp32 on a GPU leaves its bf16 units idle; bf16 is usual in pretraining.",
            "train.precision fp32 没有用上 GPU 的 bf16 单元；预训练通常用 bf16。",
        )
    offloaded = is_optimizer_offloaded(ds_json)
    if stage >= 2 and ranks == 1 and not offloaded and offload_device(ds_json, "offload_param") == "none":
        yield Sentence(
            "splits_nothing",
            f"ZeRO stage {stage} on one rank splits nothing and costs time; ds_configs/zero1.json does the same work.",
            f"只有一个 rank，ZeRO stage {stage} 没有东西可分，只会变慢；用 ds_configs/zero1.json 即可。",
        )
    saved = OPTIMIZER_BYTES * numbers.parameters // ranks
    if accelerator == "cuda" and offloaded and saved < SMALL_OPTIMIZER_BYTES:
        yield Sentence(
            "offloads_little",
            f"the offloaded optimizer states are {saved / 2**30:.1f} GiB a rank: where they fit, the same stage "
            "without offload saves the way to the host and back.",
            f"放到主机内存的优化器状态每个 rank 只有 {saved / 2**30:.1f} GiB：如果显存放得下，同一 stage 不用 offload 可省去"
            "往返主机的时间。",
        )
