"""Which transformers class holds a model, or why none does. Needs no torch; said at start, obeyed at export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zhgpt.config.moe_section import MoeSection
from zhgpt.model.shape import DecoderShape


@dataclass(frozen=True)
class ExportTarget:
    """Where a model can go.

    Attributes:
        architecture: the transformers class, or None.
        reason: why there is none; empty otherwise.
    """

    architecture: str | None
    reason: str = ""

    def __str__(self) -> str:
        return self.architecture or f"none ({self.reason})"


def export_target(shape: DecoderShape) -> ExportTarget:
    """The transformers class that computes what this model computes."""
    moe = shape.moe
    if moe is None:
        return _dense_target(shape)
    if shape.model_type == "gpt2":
        return ExportTarget(None, "no class has GPT-2's layers with experts; take model_type qwen3 or llama")
    reason = _in_no_class(moe)
    if reason:
        return ExportTarget(None, reason)
    reasons = []
    for architecture, why_not in MIXTURE_CLASSES.items():
        reason = why_not(shape, moe)
        if reason is None:
            return ExportTarget(architecture)
        reasons.append(f"{architecture}: {reason}")
    return ExportTarget(None, "; ".join(reasons))


def _dense_target(shape: DecoderShape) -> ExportTarget:
    if shape.model_type != "gpt2":
        return ExportTarget("Qwen3ForCausalLM" if shape.query_key_norm else "LlamaForCausalLM")
    if shape.query_key_norm:
        return ExportTarget(None, "no class has GPT-2's layers with normalised queries and keys (use_qk_norm)")
    return ExportTarget("GPT2LMHeadModel" if shape.learned_positions else "Starcoder2ForCausalLM")


def describe_export(shape: DecoderShape) -> str:
    """The class, or none and why; and what it has no place for and the export folds into its weights."""
    target = export_target(shape)
    parts = []
    if shape.embedding_norm:
        parts.append("the embedding norm into the table" + (", the head apart" if shape.tie_word_embeddings else ""))
    if shape.width_ratio != 1.0:
        parts.append(f"the logits' 1/{shape.width_ratio:g} into the last norm")
    return f"{target}; folds {' and '.join(parts)}" if target.architecture and parts else str(target)


def _in_no_class(moe: MoeSection) -> str | None:
    if moe.use_residual:
        return "no class has a residual expert with a learned coefficient (use_residual)"
    if len(set(moe.num_experts_by_layer)) > 1:
        return "every class has one number of experts for all layers (num_experts_by_layer)"
    return None


def _softmax_only(moe: MoeSection) -> str | None:
    if moe.scoring_func != "softmax":
        return "its scores are a softmax"
    if moe.n_shared_experts:
        return "it has no shared experts"
    if moe.n_group > 1:
        return "it has no groups of experts"
    if moe.bias_update_rate > 0:
        return "it has no selection bias"
    return None


def _why_not_mixtral(shape: DecoderShape, moe: MoeSection) -> str | None:
    if shape.query_key_norm:
        return "its queries and keys are not normalised (llama's are not)"
    if len(shape.experts) < shape.num_hidden_layers:
        return "it has no dense layers"
    if not moe.norm_topk_prob:
        return "it always scales the weights to a sum of 1 (norm_topk_prob)"
    return _softmax_only(moe)


def _why_not_qwen3_moe(shape: DecoderShape, moe: MoeSection) -> str | None:
    if not shape.query_key_norm:
        return "its queries and keys are normalised (qwen3's are)"
    return _softmax_only(moe)


def _sigmoid_only(shape: DecoderShape, moe: MoeSection) -> str | None:
    if moe.scoring_func != "sigmoid":
        return "its scores are sigmoids"
    first = moe.first_k_dense_replace
    if set(shape.experts) != set(range(first, shape.num_hidden_layers)):
        return "all its layers after the first dense ones are mixtures (decoder_sparse_step 1)"
    if not moe.n_shared_experts:
        return "it has at least one shared expert (n_shared_experts)"
    return None


def _why_not_dots1(shape: DecoderShape, moe: MoeSection) -> str | None:
    if not shape.query_key_norm:
        return "its queries and keys are normalised (qwen3's are)"
    return _sigmoid_only(shape, moe)


def _why_not_glm4_moe(shape: DecoderShape, moe: MoeSection) -> str | None:
    if shape.query_key_norm:
        return "its queries and keys are not normalised here (llama's are not)"
    return _sigmoid_only(shape, moe)


MIXTURE_CLASSES: dict[str, Callable[[DecoderShape, MoeSection], str | None]] = {
    "MixtralForCausalLM": _why_not_mixtral,
    "Qwen3MoeForCausalLM": _why_not_qwen3_moe,
    "Dots1ForCausalLM": _why_not_dots1,
    "Glm4MoeForCausalLM": _why_not_glm4_moe,
}
"""The classes for mixtures, each with (shape, moe) -> why it cannot hold this model, or None."""
