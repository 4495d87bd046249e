"""What is said of a proposal beside its numbers, in English and Chinese: a batch that ranks make large, a larger model."""

from __future__ import annotations

from collections.abc import Iterator

from zhgpt.config.advice import NEAR_ENOUGH, TOKENS_PER_PARAMETER
from zhgpt.config.fits import SOURCE
from zhgpt.config.quantities import count_text, duration_text
from zhgpt.plan.predict import Prediction
from zhgpt.plan.propose import Proposal
from zhgpt.plan.words import Sentence


def notes_on(proposal: Proposal) -> list[Sentence]:
    """All sentences about a proposal but the one that says what it is."""
    return [*_batch(proposal), *_larger(proposal)]


def asking_for(larger: Prediction) -> float:
    """The value of --tokens-per-parameter that proposes the larger model."""
    return float(f"{0.99 * larger.tokens_per_parameter:.2g}")


def _batch(proposal: Proposal) -> Iterator[Sentence]:
    if proposal.fitted_batch_tokens is None:
        return
    batch = proposal.prediction.batch
    ranks, length, fitted = batch.data_parallel_size, batch.sequence_length, proposal.fitted_batch_tokens
    yield Sentence(
        "large_batch",
        f"The batch is {batch.tokens_per_step:,} tokens because each of {ranks} ranks takes a sequence of {length:,} at least; "
        f"for a run of this length the published fit ({SOURCE}) gives about {fitted:,}. Fewer GPUs would waste fewer tokens.",
        f"每步 {batch.tokens_per_step:,} 个 token，因为 {ranks} 个 rank 每个至少取一条 {length:,} 个 token 的序列；按已发表的拟合"
        f"（{SOURCE}），这个训练长度约用 {fitted:,} 个。减少 GPU，浪费的 token 就少一些。",
    )


def _larger(proposal: Proposal) -> Iterator[Sentence]:
    larger = proposal.larger
    if larger is None:
        return
    size, ratio, option = count_text(larger.count.total), f"{larger.tokens_per_parameter:.2g}", asking_for(larger)
    is_called = larger.tokens_per_parameter < TOKENS_PER_PARAMETER * NEAR_ENOUGH
    called, called_zh = (
        ("; every start would call it undertrained", "；每次启动都会提示训练不足") if is_called else ("", "")
    )
    yield Sentence(
        "larger",
        f"A larger model would use more of the hours: {size} parameters on the same tokens ({ratio} a parameter) in "
        f"{duration_text(larger.seconds)}, {_bits(larger, ' to ')} bits per byte by the same curve{called}. "
        f"--tokens-per-parameter {option:g} proposes it.",
        f"更大的模型可以多用一些时间：{size} 参数，同样的 token（每个参数 {ratio} 个），{duration_text(larger.seconds)}；"
        f"按同一条曲线预计每字节 {_bits(larger, ' 至 ')} 比特{called_zh}。"
        f"加上 --tokens-per-parameter {option:g} 就会提议它。",
    )


def _bits(plan: Prediction, between: str) -> str:
    expected = plan.expectation
    if expected.extrapolated is None:
        return f"{expected.bits_per_byte:.2f}"
    return f"{expected.low:.2f}{between}{expected.high:.2f}"
