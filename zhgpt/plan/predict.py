"""One run on one cluster, predicted: memory, time, cost, bits per byte, and what should be said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zhgpt.config.advice import RunNumbers, advice_for
from zhgpt.config.batch_plan import BatchPlan, plan_batch
from zhgpt.config.deepspeed_json import compose_deepspeed_config
from zhgpt.config.derived import resolve_schedule
from zhgpt.config.model_shape import resolve_model
from zhgpt.config.schedule_checks import branch_step
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.config.sentence import Sentence
from zhgpt.config.usual_rates import RateJudgement, judge_rates
from zhgpt.config.zero_rules import Accelerator
from zhgpt.model.shape import ParameterCount, count_parameters, flops_per_token
from zhgpt.plan.calibration import load_constants
from zhgpt.plan.duration import StageTime, stage_times
from zhgpt.plan.gpus import Cluster
from zhgpt.plan.layout import Layout, layout_of
from zhgpt.plan.memory import MemoryPlan, plan_memory
from zhgpt.plan.scaling_curve import Expectation, expect
from zhgpt.plan.step_time import Constants, StepTime, predict_step

USED_SHARE = 0.95
"""Of the hours, what training gets; the rest goes to the start, evaluations and checkpoints (an assumption)."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text a run reads.

    Attributes:
        tokens: of its train split; None: not known, taken as enough.
        vocab_size: of its tokenizer.
        assumed: which of these were not read from a dataset.
        unigram_bits_per_byte: the dataset's unigram line; None: no dataset says it.
    """

    tokens: float | None
    vocab_size: int
    assumed: tuple[Sentence, ...] = ()
    unigram_bits_per_byte: float | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user states beside the run.

    Attributes:
        hours: that may be spent; None: as many as it takes.
        price_per_gpu_hour: in any currency; None: no price.
    """

    hours: float | None = None
    price_per_gpu_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run takes and gives.

    Attributes:
        step: of the full batch.
        stages: all steps of the run, a branch's own, by how long one takes.
        advice: what every start of this run warns of.
    """

    config: RunConfig
    ds_json: Mapping[str, Any]
    cluster: Cluster
    text: Text
    wishes: Wishes
    model: ModelSection
    count: ParameterCount
    batch: BatchPlan
    layout: Layout
    memory: MemoryPlan
    step: StepTime
    stages: tuple[StageTime, ...]
    expectation: Expectation
    advice: tuple[Sentence, ...]

    @property
    def rates(self) -> list[RateJudgement]:
        """Its learning rates beside the usual ones, the hidden matrices' first."""
        return judge_rates(self.config, self.batch, self.count.active, self.count.non_embedding)

    @property
    def fits(self) -> bool:
        """Whether the fullest moment fits the device."""
        return self.memory.total <= self.cluster.gpu.memory_bytes

    @property
    def tokens_per_second(self) -> float:
        """Of all ranks, at the full batch."""
        return self.batch.tokens_per_step / self.step.total

    @property
    def flops_per_token(self) -> int:
        """By the convention of MFU."""
        return flops_per_token(self.model, self.batch.sequence_length)

    @property
    def mfu(self) -> float:
        """Share of the data sheet's peak."""
        peak = self.cluster.gpu.peak_flops * self.cluster.world_size
        return self.flops_per_token * self.tokens_per_second / peak

    @property
    def seconds(self) -> float:
        """Of training, without evaluations and checkpoints."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def kilowatt_hours(self) -> float | None:
        """Of the devices at their board power; None where it is not known."""
        watts = self.cluster.gpu.watts
        return None if watts is None else watts * self.cluster.world_size * self.seconds / 3.6e6

    @property
    def money(self) -> float | None:
        """At the stated price."""
        price = self.wishes.price_per_gpu_hour
        return None if price is None else price * self.cluster.world_size * self.seconds / 3600

    @property
    def tokens_per_parameter(self) -> float:
        """By what a token passes."""
        return self.batch.total_tokens / self.count.active

    @property
    def epochs(self) -> float | None:
        """How often the text is read."""
        return None if self.text.tokens is None else self.batch.total_tokens / self.text.tokens

    @property
    def estimate(self) -> Sentence | None:
        """Why the times are an estimate; None where training rows of this device were measured."""
        gpu = self.cluster.gpu
        if gpu.name == "cpu":
            return Sentence(
                "cpu",
                "the constants were fitted to GPUs; of this CPU only matrix product and memory were measured",
                "常数是按 GPU 拟合的；这台机器的 CPU 只测了矩阵乘法和内存",
            )
        if not gpu.trained:
            return Sentence(
                "untrained",
                f"no training on this GPU ({gpu.name}) was measured; its times come from the rows of other GPUs",
                f"没有在这种 GPU（{gpu.name}）上实测过训练；时间由其他 GPU 的数据推算",
            )
        if self.model.moe is not None:
            return Sentence(
                "mixture",
                "no mixture of experts was measured; sorting tokens and uneven experts cost time that is not counted",
                "没有实测过混合专家模型；token 的分派和专家负载不均所费的时间没有计入",
            )
        return None


def predict(
    config: RunConfig,
    ds_json: Mapping[str, Any],
    cluster: Cluster,
    text: Text,
    wishes: Wishes,
    constants: Constants | None = None,
) -> Prediction:
    """Predict a run.

    Args:
        config: the recipe.
        ds_json: a checked DeepSpeed JSON.
        cluster: what it is to run on.
        text: what it reads.
        wishes: hours and price.
        constants: of the step-time model; None: the committed ones.

    Raises:
        SettingError: recipe, JSON and ranks do not go together.
    """
    model = resolve_model(config, text.vocab_size)
    batch = plan_batch(config, cluster.world_size)
    count = count_parameters(model)
    config = resolve_schedule(config, batch, count.non_embedding)
    accelerator: Accelerator = "cpu" if cluster.gpu.name == "cpu" else "cuda"
    compose_deepspeed_config(config, ds_json, batch, accelerator=accelerator)
    layout, constants = layout_for(config, ds_json, cluster, batch), constants or load_constants()
    prediction = Prediction(
        config=config,
        ds_json=ds_json,
        cluster=cluster,
        text=text,
        wishes=wishes,
        model=model,
        count=count,
        batch=batch,
        layout=layout,
        memory=plan_memory(model, layout, batch.micro_batch_size, batch.sequence_length, reserve=accelerator == "cuda"),
        step=predict_step(model, layout, cluster, batch.micro_batch_size, batch.sequence_length, constants),
        stages=stage_times(model, layout, cluster, batch, branch_step(config) or 0, constants),
        expectation=expect(count.active, batch.total_tokens, text.tokens, text.unigram_bits_per_byte),
        advice=(),
    )
    return replace(prediction, advice=tuple(_advice(prediction, accelerator)))


def _advice(prediction: Prediction, accelerator: Accelerator) -> list[Sentence]:
    """What every start of this run warns of."""
    count, text = prediction.count, prediction.text
    numbers = RunNumbers(
        parameters=count.total,
        embedding_parameters=count.embedding,
        flops_per_token=prediction.flops_per_token,
        train_tokens=None if text.tokens is None else round(text.tokens),
        active_parameters=count.active,
    )
    config, batch, model = prediction.config, prediction.batch, prediction.model
    return advice_for(config, batch, model, prediction.ds_json, numbers, accelerator=accelerator)


def layout_for(config: RunConfig, ds_json: Mapping[str, Any], cluster: Cluster, batch: BatchPlan) -> Layout:
    """How this run lies on these ranks."""
    return layout_of(
        ds_json,
        precision=config.train.precision,
        world_size=cluster.world_size,
        ep_size=config.train.ep_size,
        accumulation=batch.gradient_accumulation_steps,
        recomputed_layers=config.train.layers_to_recompute(config.model.num_hidden_layers),
        kernels="cpu" if cluster.gpu.name == "cpu" else "cuda",
        optimizer=config.optim.name,
        newton_schulz_steps=config.optim.muon_newton_schulz_steps,
    )


def with_settings(prediction: Prediction, ds_json: Mapping[str, Any] | None = None, **train: Any) -> Prediction:
    """The same run with another DeepSpeed JSON, or other settings of its section ``train``.

    Raises:
        SettingError: these do not go together.
    """
    config = prediction.config
    changed = config.model_copy(update={"train": config.train.model_copy(update=train)})
    wanted = prediction.ds_json if ds_json is None else ds_json
    return predict(changed, wanted, prediction.cluster, prediction.text, prediction.wishes)
