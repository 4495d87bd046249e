"""Learning rate and global batch that published fits give for a model's size and a run's length.

Li et al. 2025, "Predictable Scale: Part I, Step Law" (arXiv 2503.04715): AdamW, pre-norm decoders with SwiGLU, about 60M to
1B parameters on about 2B to 100B tokens, rates swept for each size and length. Outside those the fit is extrapolated, and
`is_extrapolated` says so.
"""

import math

SOURCE = "Step Law, Li et al. 2025"

FITTED_PARAMETERS = (60e6, 1e9)
"""Parameters without tables that the fit was made on, about; the paper tests it at the upper end."""

FITTED_TOKENS = (2e9, 100e9)
"""Tokens of the runs that the fit was made on, about."""

HIGHEST_RATE = 1e-2
"""A bound of ours, not of the paper: below a million parameters the fit climbs without end."""


def learning_rate_for(parameters: int, tokens: int) -> float:
    """Peak AdamW learning rate: 1.79 N^-0.713 D^0.307, at most `HIGHEST_RATE`, to two digits.

    Args:
        parameters: N, without the tables of tokens and positions and without an untied head; of a mixture all experts,
            which is the cautious reading: the rate is lower than that of its active parameters.
        tokens: D, of the whole run.
    """
    fitted = 1.79 * max(1, parameters) ** -0.713 * max(1, tokens) ** 0.307
    return float(f"{min(HIGHEST_RATE, fitted):.2g}")


def batch_tokens_for(tokens: float) -> float:
    """Tokens of a global batch: 0.58 D^0.571, D the tokens of the whole run."""
    return float(0.58 * max(1.0, tokens) ** 0.571)


def batch_size_for(steps: int, sequence_length: int) -> int:
    """Sequences of a global batch for a run whose length is given in steps: a power of two, whatever the world size.

    With B = 0.58 D^0.571 tokens and D = steps x B follows B = (0.58 steps^0.571)^(1 / 0.429). The nearest power of two, on
    a logarithmic scale, divides among the ranks of usual machines.
    """
    tokens = (0.58 * steps**0.571) ** (1 / (1 - 0.571))
    return int(2 ** max(0, round(math.log2(tokens / sequence_length))))


def is_extrapolated(parameters: int, tokens: int) -> bool:
    """Whether a run lies outside the sizes and lengths that the fit was made on."""
    inside = (
        FITTED_PARAMETERS[0] <= parameters <= FITTED_PARAMETERS[1] and FITTED_TOKENS[0] <= tokens <= FITTED_TOKENS[1]
    )
    return not inside
