"""What to do about a run at the unigram line: by the learning rate of its matrices, and by its tokens a parameter."""

from zhgpt.config.advice import TOKENS_PER_PARAMETER
from zhgpt.config.usual_rates import FINE_TUNING_RATE, RATE_FACTOR, usual_learning_rate
from zhgpt.health.history import History

FEW_TOKENS = TOKENS_PER_PARAMETER / 4
"""Tokens a parameter below which a plan is called too short for its model."""


def stuck_advice(history: History) -> tuple[str, str]:
    """What fits this run, in English and in Chinese."""
    reasons = [reason for reason in (_low_rate(history), _few_tokens(history)) if reason is not None]
    reasons = reasons or [_NEITHER]
    if _low_rate(history) is not None and not history.is_last:
        reasons.append(("Stop this run; waiting will not help.", "请停掉这次训练，等下去没有用。"))
    return " ".join(en for en, _ in reasons), "".join(zh for _, zh in reasons)


def _low_rate(history: History) -> tuple[str, str] | None:
    """The highest rate so far is one of fine-tuning, or far below what this size takes."""
    facts, rates = history.facts, [rate for _, rate in history.points("learning_rate")]
    rate = history.hidden_rate(max(rates, default=0.0))
    usual = usual_learning_rate(int(facts.parameters)) if facts.parameters else None
    if rate <= 0 or (rate > FINE_TUNING_RATE and (usual is None or rate >= usual / RATE_FACTOR)):
        return None
    setting = "optim.learning_rate"
    if facts.hidden_rate_factor not in (None, 1.0):
        setting += ", optim.muon_learning_rate, model.mup_base_width"
    kind_en, kind_zh = (
        ("a rate for fine-tuning", "微调用的学习率") if rate <= FINE_TUNING_RATE else ("low", "偏低的学习率")
    )
    about_en = f" about {usual:.1e} at this size" if usual else " 1e-4 to 5e-3, the smaller the model the more"
    about_zh = f"这个大小约 {usual:.1e}" if usual else "1e-4 到 5e-3，模型越小越大"
    return (
        f"The learning rate of the blocks' matrices never passed {rate:.2g}, which is {kind_en}: pretraining takes{about_en}. "
        f"Raise it ({setting}).",
        f"各层矩阵的学习率最高只有 {rate:.2g}，{rate:.2g} 是{kind_zh}；从头预训练时，{about_zh}。请调高（{setting}）。",
    )


def _few_tokens(history: History) -> tuple[str, str] | None:
    """The whole plan has too few tokens for so many parameters."""
    share = history.facts.tokens_per_parameter
    if share is None or share >= FEW_TOKENS:
        return None
    return (
        f"The whole run has {share:.2g} tokens a parameter where about {TOKENS_PER_PARAMETER:.0f} is usual: take more text and "
        "more steps, or a smaller model.",
        f"整个训练每个参数只分到 {share:.2g} 个 token（通常约 {TOKENS_PER_PARAMETER:.0f}）：请增加文本和步数，或换小一些的模型。",
    )


_NEITHER = (
    "Neither the learning rate nor the tokens a parameter say why. Look at optim.eps (1e-8 is usual), at "
    "train.initial_weights, and whether text and tokenizer fit each other: zhgpt data inspect PREFIX --document 0 must print "
    "readable text.",
    "学习率和每个参数的 token 数都看不出原因。检查 optim.eps（通常 1e-8）、train.initial_weights，以及文本与分词器是否匹配："
    "zhgpt data inspect PREFIX --document 0 应打印出可读的文字。",
)
