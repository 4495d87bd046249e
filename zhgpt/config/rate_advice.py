"""Warnings about optimizer and schedule: rates of another kind of training, and warm-ups that do not end."""

from collections.abc import Iterator, Sequence

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.derived import warmup_steps
from zhgpt.config.quantities import count_text
from zhgpt.config.schema import RunConfig
from zhgpt.config.sentence import Sentence
from zhgpt.config.usual_rates import FINE_TUNING_RATE, GPT3_LEARNING_RATES, RateJudgement


def optimizer_advice(
    config: RunConfig, plan: BatchPlan, rates: Sequence[RateJudgement], is_mixture: bool
) -> Iterator[Sentence]:
    """What should be said of learning rates, schedule, weight decay and clipping. A range test is meant to take too high a rate.

    Args:
        config: the run's settings.
        plan: its batch plan.
        rates: from ``judge_rates``, the hidden matrices' first.
        is_mixture: whether a token passes a part of the parameters only.
    """
    if config.schedule.name != "range_test":
        for judged in rates:
            yield from _rate_advice(judged, config.model.mup_base_width, is_mixture)
    yield from _schedule_advice(config, plan, rates[0].rate)
    if config.optim.weight_decay == 0:
        yield Sentence(
            "no_weight_decay",
            "optim.weight_decay is 0: 0.1 is usual in pretraining and keeps long runs stable.",
            "optim.weight_decay 为 0：预训练通常用 0.1，长时间训练因此更稳定。",
        )
    if config.optim.gradient_clipping == 0:
        yield Sentence(
            "no_clipping",
            "optim.gradient_clipping is 0: one bad batch can undo the run; 1.0 is usual.",
            "optim.gradient_clipping 为 0：一个坏的 batch 就可能毁掉训练；通常用 1.0。",
        )


def _rate_advice(judged: RateJudgement, base: int | None, is_mixture: bool) -> Iterator[Sentence]:
    if not (judged.is_low or judged.is_high):
        return
    usual, rate = f"{judged.usual:.1e}", f"{judged.rate:g}"
    name, name_zh = ("a fine-tuning value", "微调用的值") if judged.rate <= FINE_TUNING_RATE else ("low", "偏低")
    if judged.is_high:
        name, name_zh = "high", "偏高"
    source, source_zh = ("GPT-3's table", "GPT-3 的表")
    if judged.size < GPT3_LEARNING_RATES[0][0]:
        source = source_zh = "Kaplan et al. 2020"
    counted = f"{count_text(judged.size)} {'active ' * is_mixture}parameters"
    counted_zh = f"{count_text(judged.size)} {'激活' * is_mixture}参数"
    if base is not None:
        counted, counted_zh = f"{counted} at the base width {base} (muP)", f"{counted_zh}（muP，基准宽度 {base}）"
    part, part_zh = {
        "hidden": ("", ""),
        "embedding": ("the tables of ", "的词表"),
        "head": ("the head of ", "的输出层"),
    }[judged.role]
    most, most_zh = f"{judged.low:.0e} to {judged.high:.0e} at most", f"最多 {judged.low:.0e} 至 {judged.high:.0e}"
    if judged.high == float("inf"):
        most, most_zh = f"at least {judged.low:.0e}", f"至少 {judged.low:.0e}"
    outcome, outcome_zh = _outcome(judged)
    yield Sentence(
        "low_rate" if judged.is_low else "high_rate",
        f"{judged.setting} {rate} is {name} for {part}{counted}: pretraining takes about {usual} ({source}), {most}; {outcome}.",
        f"{judged.setting} {rate} 对 {counted_zh}{part_zh}来说{'是' * (name_zh == '微调用的值')}{name_zh}：预训练通常约 {usual}"
        f"（{source_zh}），{most_zh}；{outcome_zh}。",
    )


def _outcome(judged: RateJudgement) -> tuple[str, str]:
    """What comes of a rate outside the usual ones."""
    who, who_zh = {"hidden": ("the model", "模型"), "embedding": ("they", "词表"), "head": ("it", "输出层")}[
        judged.role
    ]
    if judged.is_far_too_high:
        return "the loss will diverge", "损失会发散"
    if judged.is_high:
        return "the loss may diverge", "损失可能发散"
    if judged.is_far_too_low:
        return f"{who} would hardly learn", f"{who_zh}几乎学不到东西"
    return f"{who} would learn slowly", f"{who_zh}会学得很慢"


def _schedule_advice(config: RunConfig, plan: BatchPlan, rate: float) -> Iterator[Sentence]:
    steps, schedule, warmup = config.train.steps, config.schedule, warmup_steps(config, plan)
    if schedule.name == "range_test":
        yield Sentence(
            "range_test",
            "schedule.name range_test drives the learning rate up until the loss diverges: nothing trains this way.",
            "schedule.name range_test 会把学习率一直提高到损失发散：这样训练不出模型。",
        )
        return
    if warmup == 0:
        yield Sentence(
            "no_warmup",
            "schedule.warmup_steps is 0: the first steps take the full learning rate while Adam's averages are empty.",
            "schedule.warmup_steps 为 0：前几步就用全部学习率，而 Adam 的平均值还是空的。",
        )
    decay_steps, is_branch = schedule.decay_steps(steps), config.train.branch_from is not None
    if warmup >= steps > 1:
        reached = rate * steps / warmup
        yield Sentence(
            "ends_in_warmup",
            f"schedule.warmup_steps {warmup} is not less than train.steps {steps}: the run ends inside its "
            f"warm-up, at a learning rate of {reached:.2g} instead of {rate:g}.",
            f"schedule.warmup_steps {warmup} 不小于 train.steps {steps}：训练在预热阶段就结束，学习率只到 {reached:.2g}，"
            f"而不是 {rate:g}。",
        )
    elif schedule.name == "wsd" and warmup + decay_steps > steps and not is_branch:
        yield Sentence(
            "warmup_meets_decay",
            f"schedule wsd: warmup_steps {warmup} + decay of {decay_steps} steps (decay_fraction "
            f"{schedule.decay_fraction:g}) exceed train.steps {steps}: the rate falls at once where the warm-up ends.",
            f"schedule wsd：warmup_steps {warmup} 加上衰减的 {decay_steps} 步（decay_fraction {schedule.decay_fraction:g}）超过 "
            f"train.steps {steps}：预热一结束，学习率就立即下降。",
        )
