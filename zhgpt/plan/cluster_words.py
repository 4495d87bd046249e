"""What a plan says of a run on its cluster: what does not fit, what takes too long, what wastes the GPU."""

from __future__ import annotations

from collections.abc import Iterator

from zhgpt.config.quantities import count_text, duration_text
from zhgpt.config.sentence import Sentence
from zhgpt.plan.duration import last_step_within
from zhgpt.plan.gpus import GIB
from zhgpt.plan.predict import USED_SHARE, Prediction, with_settings
from zhgpt.plan.ways import LEAST_MICRO_TOKENS
from zhgpt.plan.ways_out import divides, way_out

WASTE = 1.10
"""A micro batch that fits and makes the run this much faster is named."""
ROUNDING = 1 + 1e-9
"""Of a proposal that fills its hours to the last step, what floating point may add."""


def cluster_sentences(prediction: Prediction) -> Iterator[Sentence]:
    """Everything that follows from the GPUs and the hours."""
    yield from _fit(prediction)
    yield from _hours(prediction)
    yield from _micro_batch(prediction)
    yield from _precision(prediction)


def _fit(prediction: Prediction) -> Iterator[Sentence]:
    if prediction.fits:
        return
    need, have = prediction.memory.total / GIB, prediction.cluster.gpu.memory_bytes / GIB
    way_en, way_zh = way_out(prediction)
    yield Sentence(
        "does_not_fit",
        f"it does not fit: {need:.1f} GiB a rank on a {prediction.cluster.gpu.name} of {have:.0f} GiB. {way_en}",
        f"放不下：每个 rank 需要 {need:.1f} GiB，{prediction.cluster.gpu.name} 只有 {have:.0f} GiB。{way_zh}",
    )


def _hours(prediction: Prediction) -> Iterator[Sentence]:
    hours = prediction.wishes.hours
    if hours is None or prediction.seconds <= hours * 3600 * USED_SHARE * ROUNDING:
        return
    first, end = prediction.stages[0].first_step, prediction.batch.steps
    steps = last_step_within(prediction.stages, hours * 3600 * USED_SHARE)
    advice, advice_zh = f"Set train.steps={steps}.", f"请设 train.steps={steps}。"
    if steps <= first:
        advice, advice_zh = "Not even its first step fits: take more hours.", "连第一步都放不下：请给更多时间。"
    taken, share = duration_text(prediction.seconds), f"{100 * USED_SHARE:.0f} %"
    yield Sentence(
        "too_long",
        f"the run takes {taken}; {share} of {hours:g} hours (the rest is for the start, evaluations and checkpoints) end at step "
        f"{steps:,} of {end:,}, before its learning rate has come down. {advice}",
        f"需要 {taken}；{hours:g} 小时的 {share}（其余留给启动、评估和检查点）只到第 {steps:,} 步（共 {end:,} 步），学习率还没有"
        f"降下来。{advice_zh}",
    )


def _micro_batch(prediction: Prediction) -> Iterator[Sentence]:
    """A larger micro batch that fits and is clearly faster, or larger than micro-steps of which nothing was measured."""
    if not prediction.fits or prediction.cluster.gpu.name == "cpu":
        return
    batch = prediction.batch
    size, length = batch.micro_batch_size, batch.sequence_length
    faster: tuple[float, int] | None = None
    measured: int | None = None
    larger = size * 2
    while larger * batch.data_parallel_size <= batch.global_batch_size:
        if divides(batch, larger):
            other = with_settings(prediction, micro_batch_size=larger)
            if not other.fits:
                break
            gain = prediction.step.total / other.step.total
            if gain >= WASTE and (faster is None or gain > faster[0] * 1.02):
                faster = gain, larger
            if measured is None or measured * length < LEAST_MICRO_TOKENS:
                measured = larger
        larger *= 2
    if faster is not None:
        yield Sentence(
            "small_micro_batch",
            f"train.micro_batch_size {size} wastes the GPU: {faster[1]} fits and is {faster[0]:.2f} times as fast, with the "
            "same global batch.",
            f"train.micro_batch_size {size} 浪费 GPU：{faster[1]} 放得下，速度是 {faster[0]:.2f} 倍，global batch 不变。",
        )
    elif measured is not None and size * length < LEAST_MICRO_TOKENS:
        yield Sentence(
            "small_micro_batch",
            f"train.micro_batch_size {size} gives a micro-step of {size * length:,} tokens, and nothing was measured below "
            f"{LEAST_MICRO_TOKENS:,}: the GPU may idle more than this plan says. {measured} fits, with the same global batch.",
            f"train.micro_batch_size {size} 每个 micro-step 只有 {size * length:,} 个 token，低于 {LEAST_MICRO_TOKENS:,} 的情况"
            f"没有实测数据：GPU 的空闲可能比这里预计的多。{measured} 放得下，global batch 不变。",
        )


def _precision(prediction: Prediction) -> Iterator[Sentence]:
    """bf16 on a GPU that computes it in fp32."""
    gpu = prediction.cluster.gpu
    if gpu.half_type != "fp16" or prediction.config.train.precision != "bf16":
        return
    speed, way, way_zh = (
        "",
        "fp16 needs ZeRO 1 or more (ds_configs/zero1.json)",
        "fp16 需要 ZeRO 1 以上（ds_configs/zero1.json）",
    )
    if prediction.layout.stage > 0:
        half = with_settings(prediction, precision="fp16")
        speed = f": {count_text(prediction.tokens_per_second)} / {count_text(half.tokens_per_second)} tokens/s"
        way, way_zh = "set train.precision=fp16", "请设 train.precision=fp16"
    yield Sentence(
        "bf16_without_units",
        f"train.precision bf16 on a {gpu.name}, which has no bf16 units and computes it in fp32 (bf16 / fp16{speed}); {way}.",
        f"{gpu.name} 没有 bf16 单元，train.precision bf16 会按 fp32 计算（bf16 / fp16{speed}）；{way_zh}。",
    )
