"""Whether the demo's model has learnt: bits per byte on held-out documents against what counting tokens reaches."""

from dataclasses import dataclass

from megatron_style_data.manifest import Floor

REQUIRED_GAIN_BITS_PER_BYTE = 0.5


@dataclass(frozen=True)
class Verdict:
    """Passed or not, and one sentence why."""

    passed: bool
    sentence: str


def judge(valid_bits_per_byte: float, floor: Floor) -> Verdict:
    """Compares held-out bits per byte with the unigram and the interpolated bigram line.

    Args:
        valid_bits_per_byte: of the trained model, on the held-out documents.
        floor: the same documents' cost under token and token-pair frequencies of the training text.
    """
    unigram, bigram = floor.unigram_bits_per_byte, floor.bigram_bits_per_byte
    gain = unigram - valid_bits_per_byte
    numbers = f"held-out text costs {valid_bits_per_byte:.3f} bits a byte; token frequencies alone give {unigram:.3f}"
    if gain < REQUIRED_GAIN_BITS_PER_BYTE:
        return Verdict(
            False,
            f"{numbers}: the gain of {gain:.3f} is less than {REQUIRED_GAIN_BITS_PER_BYTE}, so the model has learnt little more "
            "than which tokens are frequent",
        )
    if valid_bits_per_byte < bigram:
        return Verdict(True, f"{numbers}, token pairs {bigram:.3f}: the model beats both lines")
    return Verdict(
        True,
        f"{numbers}, token pairs {bigram:.3f}: the model beats the first line by {gain:.3f} but not yet the second",
    )
