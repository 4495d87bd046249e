"""What a plan says in sentences, in English and Chinese: what does not fit, what wastes, why a run would fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from zhgpt.config.advice import (
    FINE_TUNING_RATE,
    NEAR_ENOUGH,
    RATE_FACTOR,
    TOKENS_PER_PARAMETER,
    USEFUL_EPOCHS,
    usual_learning_rate,
)
from zhgpt.config.quantities import count_text, duration_text
from zhgpt.errors import SettingError
from zhgpt.plan.gpus import GIB
from zhgpt.plan.predict import Prediction, with_settings
from zhgpt.plan.propose import Proposal

Language = Literal["en", "zh"]
JUST_SAYING = "each is read"
"""In advice.py's sentence about more than one and at most four passes, which is no fault."""
WASTE = 1.10
"""A micro batch that fits and makes the run this much faster is named."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing said, in both languages; ``kind`` is what tests and ``--json`` know it by."""

    kind: str
    en: str
    zh: str

    def text(self, language: Language) -> str:
        """In one of them."""
        return self.zh if language == "zh" else self.en


def sentences(prediction: Prediction) -> list[Sentence]:
    """Everything that the plan itself warns of; what advice.py warns of stands in ``prediction.warnings``."""
    return [*_fit(prediction), *_hours(prediction), *_micro_batch(prediction)]


def warnings_in(prediction: Prediction, language: Language) -> list[str]:
    """All warnings: the plan's own, then those that every start prints.

    In Chinese, those about tokens, passes and learning rate are said anew; the others stay in English.
    """
    own = [sentence.text(language) for sentence in sentences(prediction)]
    if language == "en":
        return [*own, *prediction.warnings]
    told = list(_chinese_advice(prediction))
    marks = ("tokens a parameter where", "reads the data", "is read", "optim.learning_rate")
    rest = [text for text in prediction.warnings if not any(mark in text for mark in marks)]
    return [*own, *told, *rest]


def is_doomed(prediction: Prediction) -> bool:
    """Whether the run will learn token frequencies and not much else: under one token a parameter, or a rate far too low."""
    return prediction.tokens_per_parameter < 1 or rate_is_too_low(prediction)


def rate_is_too_low(prediction: Prediction) -> bool:
    """Whether the learning rate is so far below the usual one that no curve of pretraining says anything about the run."""
    return prediction.config.optim.peak < usual_learning_rate(prediction.count.active) / RATE_FACTOR


def verdict(prediction: Prediction) -> Sentence:
    """The plan in a sentence or two."""
    if is_doomed(prediction):
        return _why_it_fails(prediction)
    if not prediction.fits:
        return Sentence("does_not_fit", "It does not fit: see above.", "放不下，见上文。")
    if any(JUST_SAYING not in warning for warning in prediction.warnings) or sentences(prediction):
        return Sentence(
            "doubtful",
            "It runs and learns, but the warnings name what it wastes or misses.",
            "可以训练，也能学到东西；上面的警告说明了浪费或不足之处。",
        )
    return Sentence("sound", "Nothing in these numbers speaks against it.", "从这些数字看，没有问题。")


def _why_it_fails(prediction: Prediction) -> Sentence:
    parameters, tokens = count_text(prediction.count.active), count_text(prediction.batch.total_tokens)
    ratio, rate = prediction.tokens_per_parameter, prediction.config.optim.peak
    usual = usual_learning_rate(prediction.count.active)
    reasons, chinese = [], []
    if ratio < TOKENS_PER_PARAMETER * NEAR_ENOUGH:
        reasons.append(
            f"{parameters} parameters see {tokens} tokens, {ratio:.2g} each where about {TOKENS_PER_PARAMETER:.0f} are usual"
        )
        chinese.append(
            f"{parameters} 参数只看 {tokens} 个 token，每个参数 {ratio:.2g} 个，通常约 {TOKENS_PER_PARAMETER:.0f} 个"
        )
    if rate < usual / RATE_FACTOR:
        kind = "a rate that fine-tunes a trained model" if rate <= FINE_TUNING_RATE else "far too low a rate"
        reasons.append(
            f"the learning rate {rate:g} is {kind}, a {usual / rate:.0f}th of the {usual:.1e} that pretraining takes"
        )
        kind = "微调用的学习率" if rate <= FINE_TUNING_RATE else "太低的学习率"
        chinese.append(f"学习率 {rate:g} 是{kind}，只有预训练常用值 {usual:.1e} 的 {usual / rate:.0f} 分之一")
    return Sentence(
        "fails",
        f"This run fails: {'; and '.join(reasons)}. It will learn which tokens are frequent and not much else: its loss comes "
        "down to the unigram line of your text (zhgpt data build measures it) and stays there, and what it writes repeats "
        "frequent tokens, punctuation above all.",
        f"这次训练会失败：{'；而且'.join(chinese)}。模型只能学到哪些 token 常见：损失降到语料的 unigram 线（zhgpt data build "
        "会测出它）就停住，生成的文字会重复常见的 token，首先是标点和引号。",
    )


def proposal_sentence(proposal: Proposal) -> Sentence:
    """What a proposal is, and what limits it."""
    plan = proposal.prediction
    low, high = plan.expectation.low, plan.expectation.high
    one = f"{plan.expectation.bits_per_byte:.2f}"
    expected, expected_zh = (
        (f"{low:.2f} to {high:.2f}", f"{low:.2f} 至 {high:.2f}") if plan.expectation.extrapolated else (one, one)
    )
    where = f"{plan.cluster.world_size} x {plan.cluster.gpu.name}"
    en = (
        f"{where}, {duration_text(plan.seconds)}: {count_text(plan.count.total)} parameters on "
        f"{count_text(plan.batch.total_tokens)} tokens ({plan.tokens_per_parameter:.3g} a parameter), {plan.batch.steps:,} steps "
        f"of {plan.batch.tokens_per_step:,} tokens, learning rate {plan.config.optim.peak:g}, ZeRO-{proposal.stage}, "
        f"micro batch {plan.batch.micro_batch_size}; {expected} bits per byte may be expected."
    )
    zh = (
        f"{where}，{duration_text(plan.seconds)}：{count_text(plan.count.total)} 参数，{count_text(plan.batch.total_tokens)} 个 "
        f"token（每个参数 {plan.tokens_per_parameter:.3g} 个），{plan.batch.steps:,} 步，每步 {plan.batch.tokens_per_step:,} 个 "
        f"token，学习率 {plan.config.optim.peak:g}，ZeRO-{proposal.stage}，micro batch "
        f"{plan.batch.micro_batch_size}；预计每字节 {expected_zh} 比特。"
    )
    if proposal.limited_by == "text" and proposal.useful_text_gb is not None:
        en += (
            f" The text is what limits it, read {plan.epochs or 0:.2g} times: the hours could use about "
            f"{proposal.useful_text_gb:.2g} GB, and a larger model with it."
        )
        zh += (
            f" 限制在于语料（要读 {plan.epochs or 0:.2g} 遍）：这些时间大约够用 {proposal.useful_text_gb:.2g} GB 语料，"
            "模型也可以更大。"
        )
    return Sentence("proposal", en, zh)


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


def way_out(prediction: Prediction) -> tuple[str, str]:
    """The first change that makes it fit: a smaller micro batch, checkpointing, a higher stage; in both languages."""
    size, ranks = prediction.batch.micro_batch_size, prediction.batch.data_parallel_size
    for smaller in range(size - 1, 0, -1):
        divides = prediction.batch.global_batch_size % (smaller * ranks) == 0
        if divides and with_settings(prediction, micro_batch_size=smaller).fits:
            return f"train.micro_batch_size={smaller} does.", f"改为 train.micro_batch_size={smaller} 即可。"
    for smaller in (size, 1):
        divides = prediction.batch.global_batch_size % (smaller * ranks) == 0
        settings = {"micro_batch_size": smaller, "activation_checkpointing": True, "recomputed_layers": None}
        if divides and with_settings(prediction, **settings).fits:
            words = f"train.activation_checkpointing=true train.micro_batch_size={smaller}"
            if prediction.config.train.recomputed_layers is not None:
                words += " train.recomputed_layers=null"
            return f"{words} does, for about a third more work.", f"改为 {words} 即可，计算量约多三分之一。"
    if prediction.layout.stage < 3 and ranks > 1:
        return (
            "Take a higher ZeRO stage (ds_configs/zero3.json) or more GPUs.",
            "请用更高的 ZeRO stage（ds_configs/zero3.json）或更多 GPU。",
        )
    return (
        "Offload the optimizer (ds_configs/zero2_offload.json), or take a smaller model or more GPUs.",
        "请把优化器放到主机内存（ds_configs/zero2_offload.json），或换更小的模型、更多的 GPU。",
    )


def _hours(prediction: Prediction) -> Iterator[Sentence]:
    hours = prediction.wishes.hours
    if hours is None or prediction.seconds <= hours * 3600:
        return
    steps = int(hours * 3600 / prediction.step.total)
    yield Sentence(
        "too_long",
        f"the run takes {duration_text(prediction.seconds)}; {hours:g} hours end at step {steps:,} of "
        f"{prediction.batch.steps:,}, before its learning rate has come down. Set train.steps={max(1, steps):d}.",
        f"需要 {duration_text(prediction.seconds)}；{hours:g} 小时只到第 {steps:,} 步（共 {prediction.batch.steps:,} 步），学习率"
        f"还没有降下来。请设 train.steps={max(1, steps):d}。",
    )


def _micro_batch(prediction: Prediction) -> Iterator[Sentence]:
    """A larger micro batch that fits and is clearly faster."""
    if not prediction.fits or prediction.cluster.gpu.name == "cpu":
        return
    size, ranks = prediction.batch.micro_batch_size, prediction.batch.data_parallel_size
    larger = size * 2
    best: tuple[float, int] | None = None
    while larger * ranks <= prediction.batch.global_batch_size:
        if prediction.batch.global_batch_size % (larger * ranks) == 0:
            other = with_settings(prediction, micro_batch_size=larger)
            if not other.fits:
                break
            gain = prediction.step.total / other.step.total
            if gain >= WASTE and (best is None or gain > best[0] * 1.02):
                best = gain, larger
        larger *= 2
    if best is not None:
        yield Sentence(
            "small_micro_batch",
            f"train.micro_batch_size {size} wastes the GPU: {best[1]} fits and is {best[0]:.2f} times as fast, with the same "
            "global batch.",
            f"train.micro_batch_size {size} 浪费 GPU：{best[1]} 放得下，速度是 {best[0]:.2f} 倍，global batch 不变。",
        )


def _chinese_advice(prediction: Prediction) -> Iterator[str]:
    """Tokens a parameter, passes and learning rate, as advice.py has them in English."""
    ratio, epochs = prediction.tokens_per_parameter, prediction.epochs
    if ratio < TOKENS_PER_PARAMETER * NEAR_ENOUGH:
        yield (
            f"{count_text(prediction.count.active)} 参数训练 {count_text(prediction.batch.total_tokens)} 个 token：每个参数 "
            f"{ratio:.2g} 个，通常约 {TOKENS_PER_PARAMETER:.0f} 个（Hoffmann et al. 2022）；请减小模型或增加步数。"
        )
    if epochs is not None and epochs > USEFUL_EPOCHS:
        yield (
            f"语料要读 {epochs:.3g} 遍；超过约 {USEFUL_EPOCHS:.0f} 遍，重复几乎学不到新东西，只会背诵"
            "（Muennighoff et al. 2023）。"
        )
    rate, usual = prediction.config.optim.peak, usual_learning_rate(prediction.count.active)
    if not usual / RATE_FACTOR <= rate <= usual * RATE_FACTOR:
        kind = "微调用的值" if rate <= FINE_TUNING_RATE else "偏低" if rate < usual else "偏高"
        yield f"optim.learning_rate {rate:g} {'是' if kind == '微调用的值' else ''}{kind}：这个大小的预训练通常约 {usual:.1e}。"


def check_language(name: str) -> Language:
    """``en`` or ``zh``.

    Raises:
        SettingError: another.
    """
    if name == "en":
        return "en"
    if name == "zh":
        return "zh"
    raise SettingError(f"--language {name}: expected en or zh")
