"""Folds into ordinary weights what training has and no transformers class does: the same logits from fewer parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from zhgpt.model.layers import make_norm
from zhgpt.model.shape import DecoderShape

TABLE, HEAD, EMBEDDING_NORM, LAST_NORM = (
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.embed_norm.",
    "model.norm.",
)


def fold(weights: Mapping[str, Tensor], shape: DecoderShape) -> tuple[dict[str, Tensor], DecoderShape]:
    """Return weights and shape of the ordinary model that computes the same.

    The norm of the embeddings depends on the token alone: the table's rows are normalised once and for all. The head of a
    tied model reads the rows as they were, and becomes a table of its own. The factor of the logits (muP) goes into the
    last norm, whose output is read by nothing but the head.

    Args:
        weights: fp32, under ``CausalLM``'s canonical names.
        shape: of the model they belong to.
    """
    found = dict(weights)
    if shape.embedding_norm:
        if shape.tie_word_embeddings:
            found[HEAD] = found[TABLE]
        norm = make_norm(shape)
        norm.load_state_dict({name: found.pop(EMBEDDING_NORM + name) for name in norm.state_dict()})
        with torch.no_grad():
            found[TABLE] = norm(found[TABLE].float())
        shape = replace(shape, embedding_norm=False, tie_word_embeddings=False)
    if shape.width_ratio != 1.0:
        for name in [name for name in found if name.startswith(LAST_NORM)]:
            found[name] = found[name] / shape.width_ratio
        shape = replace(shape, width_ratio=1.0)
    return found, shape
