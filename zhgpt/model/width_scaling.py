"""How first weights, learning rates and logits depend on the width, so that settings found narrow serve wide models (muP).

G. Yang and others 2022, "Tensor Programs V" (arXiv 2203.03466), table 8: with the base width's settings, and m the width
over the base width,

    matrices of layers (fan-in grows)    deviation / sqrt(m)    AdamW's rate / m
    tables of tokens and positions       as at the base         as at the base
    output head, tied or not             as at the base         as at the base    logits / m
    norms and biases                     as at the base         as at the base

The paper also divides attention's logits by the head size instead of its root. Here heads keep their size and grow in
number with the width, so that nothing changes there. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLES = ("embed_tokens.weight", "embed_positions.weight", "lm_head.weight")


@dataclass(frozen=True)
class WidthMultipliers:
    """What a parameter's settings at the base width are multiplied by.

    Attributes:
        initial_deviation: of its first weights.
        learning_rate: of the group it is in.
        weight_decay: so that learning rate x weight decay, what a step takes off the weights, is that of the base width
            (X. Wang and L. Aitchison 2024, arXiv 2405.13698).
    """

    initial_deviation: float = 1.0
    learning_rate: float = 1.0
    weight_decay: float = 1.0


def width_multipliers(name: str, dimensions: int, width_ratio: float, algorithm: str = "adamw") -> WidthMultipliers:
    """Return the multipliers of one parameter of ``CausalLM``.

    Args:
        name: of the parameter, as in a running model or canonical.
        dimensions: of its shape; a stack of experts has three.
        width_ratio: hidden size over ``mup_base_width``; :attr:`zhgpt.model.shape.DecoderShape.width_ratio`.
        algorithm: ``adamw``, or ``muon`` for a step that is orthogonal and scaled to AdamW's root mean square. AdamW's steps
            on a matrix align, so that their effect grows with the fan-in; an orthogonal step of the same root mean square
            grows with its root.
    """
    if width_ratio == 1.0 or dimensions < 2 or name.endswith(TABLES):
        return WidthMultipliers()
    rate = 1 / width_ratio**0.5 if algorithm == "muon" else 1 / width_ratio
    return WidthMultipliers(width_ratio**-0.5, rate, 1 / rate)
