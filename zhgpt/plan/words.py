"""What a plan says in sentences, in English and Chinese: all warnings, the verdict, what is proposed."""

from __future__ import annotations

from typing import TypeGuard

from zhgpt.config.advice import NEAR_ENOUGH, SEVERAL_EPOCHS, TOKENS_PER_PARAMETER
from zhgpt.config.quantities import count_text, duration_text
from zhgpt.config.sentence import Language, Sentence
from zhgpt.config.usual_rates import RateJudgement
from zhgpt.errors import SettingError
from zhgpt.plan.cluster_words import cluster_sentences
from zhgpt.plan.predict import Prediction
from zhgpt.plan.propose import NothingToPropose, Proposal

FEWEST_STEPS, FEWEST_TOKENS = 40, 160_000
"""Runs below either fail: about half of the 81 steps and 331,776 tokens of the shortest of our runs below its unigram line
(scaling_runs.json). Where between the two learning begins was not measured."""


def sentences(prediction: Prediction) -> list[Sentence]:
    """All warnings: the plan's own, then those of every start."""
    return [*cluster_sentences(prediction), *prediction.advice]


def warnings_in(prediction: Prediction, language: Language) -> list[str]:
    """All warnings in one language."""
    return [said.text(language) for said in sentences(prediction)]


def assumptions(prediction: Prediction, language: Language) -> str:
    """What no dataset and no option said, in one line; empty: nothing."""
    said = [one.text(language) for one in prediction.text.assumed]
    if prediction.cluster.is_interconnect_assumed:
        link = prediction.cluster.interconnect
        said.append(
            {"en": f"{link} between hosts (--interconnect)", "zh": f"主机之间为 {link}（--interconnect）"}[language]
        )
    return ("；" if language == "zh" else " and ").join(said)


def is_doomed(prediction: Prediction) -> bool:
    """Whether the run will learn next to nothing."""
    return why_it_fails(prediction) is not None


def rate_cannot_train(prediction: Prediction) -> bool:
    """Whether the learning rate is one with which no curve of pretraining says anything about the run."""
    return _rate_is_far_too_low(prediction) or _diverging(prediction) is not None


def verdict(prediction: Prediction) -> Sentence:
    """The plan in a sentence or two."""
    failing = why_it_fails(prediction)
    if failing is not None:
        return failing
    if not prediction.fits:
        return Sentence("does_not_fit", "It does not fit: see above.", "放不下，见上文。")
    if any(judged.is_high for judged in prediction.rates):
        return Sentence(
            "may_diverge",
            "It runs, but may diverge: the learning rate is higher than pretraining takes, see above.",
            "可以训练，但损失可能发散：学习率高于预训练的常用值，见上文。",
        )
    ratio = prediction.tokens_per_parameter
    if ratio < 1:
        return Sentence(
            "undertrained",
            f"It runs and learns, but stays undertrained: {ratio:.2g} tokens a parameter where about {TOKENS_PER_PARAMETER:.0f} "
            "are usual. Expect repetition; a smaller model learns more from these tokens, or take more of them.",
            f"可以训练，也能学到东西，但训练不足：每个参数只有 {ratio:.2g} 个 token，通常约 {TOKENS_PER_PARAMETER:.0f} 个。"
            "生成的文字会重复；同样的 token，更小的模型能学到更多，或增加 token。",
        )
    if any(said.kind != SEVERAL_EPOCHS for said in sentences(prediction)):
        return Sentence(
            "doubtful",
            "It runs and learns, but the warnings name what it wastes or misses.",
            "可以训练，也能学到东西；上面的警告说明了浪费或不足之处。",
        )
    return Sentence("sound", "Nothing in these numbers speaks against it.", "从这些数字看，没有问题。")


def why_it_fails(prediction: Prediction) -> Sentence | None:
    """Why the run will learn next to nothing; None: it will learn.

    A rate far too low, so few steps or tokens that no run of ours learnt from as few, or a rate at which the loss diverges. Few
    tokens a parameter alone are no failure. A run that starts from trained weights may be short and slow.
    """
    diverging = _diverging(prediction)
    if diverging is not None:
        return Sentence(
            "fails",
            f"This run fails: {diverging[0]}. Its loss climbs or becomes NaN, and what it writes is noise.",
            f"这次训练会失败：{diverging[1]}。损失会上升或变成 NaN，生成的文字是乱码。",
        )
    slow, short = _rate_is_far_too_low(prediction), _is_too_short(prediction)
    if not (slow or short):
        return None
    reasons = [*_few_tokens(prediction)]
    if short:
        steps, tokens = f"{prediction.batch.steps:,}", count_text(prediction.batch.total_tokens)
        reasons.append(
            (
                f"{steps} steps on {tokens} tokens are too few to learn more than frequencies",
                f"{steps} 步、{tokens} 个 token 太少，学不到词频以外的东西",
            )
        )
    if slow:
        reasons.append(_slow(prediction.rates[0]))
    return Sentence(
        "fails",
        f"This run fails: {'; and '.join(english for english, _ in reasons)}. It will learn which tokens are frequent and not "
        "much else: its loss comes down to the unigram line of your text (zhgpt data build measures it) and stays there, and "
        "what it writes repeats frequent tokens, punctuation above all.",
        f"这次训练会失败：{'；而且'.join(chinese for _, chinese in reasons)}。模型只能学到哪些 token 常见：损失降到语料的 "
        "unigram 线（zhgpt data build 会测出它）就停住，生成的文字会重复常见的 token，首先是标点和引号。",
    )


def _rate_is_far_too_low(prediction: Prediction) -> bool:
    return prediction.config.train.initial_weights is None and prediction.rates[0].is_far_too_low


def _is_too_short(prediction: Prediction) -> bool:
    batch = prediction.batch
    few = batch.steps < FEWEST_STEPS or batch.total_tokens < FEWEST_TOKENS
    return few and prediction.config.train.initial_weights is None


def _diverging(prediction: Prediction) -> tuple[str, str] | None:
    """Why the loss will diverge, in both languages; None: nothing says that it will."""
    if prediction.config.schedule.name == "range_test":
        return (
            "schedule.name range_test drives the learning rate up until the loss diverges",
            "schedule.name range_test 会把学习率一直提高到损失发散",
        )
    for judged in prediction.rates:
        if judged.is_far_too_high:
            times = f"{judged.rate / judged.usual:,.0f}"
            return (
                f"{_named(judged)[0]} is {times} times the {judged.usual:.1e} that pretraining takes, and the loss will diverge",
                f"{_named(judged)[1]}是预训练常用值 {judged.usual:.1e} 的 {times} 倍，损失会发散",
            )
    return None


def _few_tokens(prediction: Prediction) -> list[tuple[str, str]]:
    ratio = prediction.tokens_per_parameter
    if ratio >= TOKENS_PER_PARAMETER * NEAR_ENOUGH:
        return []
    parameters, tokens = count_text(prediction.count.active), count_text(prediction.batch.total_tokens)
    return [
        (
            f"{parameters} parameters see {tokens} tokens, {ratio:.2g} each where about {TOKENS_PER_PARAMETER:.0f} are usual",
            f"{parameters} 参数只看 {tokens} 个 token，每个参数 {ratio:.2g} 个，通常约 {TOKENS_PER_PARAMETER:.0f} 个",
        )
    ]


def _slow(judged: RateJudgement) -> tuple[str, str]:
    """That a learning rate is far too low, in both languages."""
    usual, times = f"{judged.usual:.1e}", judged.usual / judged.rate
    return (
        f"{_named(judged)[0]} is a rate that fine-tunes a trained model, {_part(round(times))} of the {usual} that "
        "pretraining takes",
        f"{_named(judged)[1]}是微调用的学习率，只有预训练常用值 {usual} 的 {times:.0f} 分之一",
    )


def _named(judged: RateJudgement) -> tuple[str, str]:
    """A learning rate by its number, and by its setting where that is not the usual one."""
    if judged.setting == "optim.learning_rate":
        return f"the learning rate {judged.rate:g}", f"学习率 {judged.rate:g} "
    return f"{judged.setting} {judged.rate:g}", f"{judged.setting} {judged.rate:g} "


def _part(number: int) -> str:
    """``a 16th``, ``a 22nd``."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"a {number}{ending}"


def would_do(proposal: Proposal | NothingToPropose) -> TypeGuard[Proposal]:
    """Whether something is proposed that would not fail itself."""
    return isinstance(proposal, Proposal) and not is_doomed(proposal.prediction)


def instead_sentence(proposal: Proposal | NothingToPropose) -> Sentence:
    """What would not fail in the same hours, or that nothing would."""
    if isinstance(proposal, NothingToPropose):
        return Sentence("nothing_instead", f"no plan would not fail: {proposal}", f"没有不会失败的方案：{proposal}")
    plan = proposal.prediction
    if would_do(proposal):
        said = proposal_sentence(proposal)
        return Sentence("instead", f"what would not fail: {said.en}", f"换成这样就不会失败：{said.zh}")
    lacking, lacking_zh = ("hours are", "时间") if proposal.limited_by != "text" else ("text is", "语料")
    batch = f"{plan.batch.steps:,}", count_text(plan.batch.total_tokens)
    return Sentence(
        "nothing_instead",
        f"no plan would not fail: the {lacking} too little. Even the best of them ends at step {batch[0]}, "
        f"after {batch[1]} tokens.",
        f"没有不会失败的方案：{lacking_zh}太少。最好的方案也只到第 {batch[0]} 步、{batch[1]} 个 token。",
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
