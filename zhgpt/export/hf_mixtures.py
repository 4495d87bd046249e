"""Mixtures of experts for transformers: what their configs say, and under which names their weights lie.

Experts are written one by one, as in the public checkpoints of these classes: transformers 4 and vLLM read only that form,
transformers 5 stacks them while it loads (its ``conversion_mapping.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zhgpt.config.moe_section import MoeSection
from zhgpt.export.hf_weights import llama_weights
from zhgpt.model.shape import DecoderShape

SELECTION_BIAS = "mlp.gate.e_score_correction_bias"
"""Not a parameter, and fp32 in every file: it moves in steps that bf16 does not hold."""

MIXTRAL_PARTS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
EXPERT = re.compile(r"\.mlp\.experts\.(\d+)\.(gate_proj|up_proj|down_proj)\.")


def mixtral_fields(shape: DecoderShape) -> dict[str, Any]:
    """Return what MixtralConfig says beside Llama's; its ``intermediate_size`` is that of an expert."""
    moe = _moe(shape)
    return {
        "intermediate_size": shape.expert_size,
        "num_local_experts": _experts(shape),
        "num_experts_per_tok": moe.num_experts_per_tok,
        "router_aux_loss_coef": moe.router_aux_loss_coef,
        "output_router_logits": False,
        "router_jitter_noise": 0.0,
        "sliding_window": None,
        "attention_dropout": 0.0,
    }


def qwen3_moe_fields(shape: DecoderShape) -> dict[str, Any]:
    """Return what Qwen3MoeConfig says beside Llama's.

    Its sparse step counts from layer 0 as ours does; first dense layers are named one by one.
    """
    moe = _moe(shape)
    stepped = range(moe.decoder_sparse_step - 1, shape.num_hidden_layers, moe.decoder_sparse_step)
    return {
        "moe_intermediate_size": shape.expert_size,
        "num_experts": _experts(shape),
        "num_experts_per_tok": moe.num_experts_per_tok,
        "norm_topk_prob": moe.norm_topk_prob,
        "decoder_sparse_step": moe.decoder_sparse_step,
        "mlp_only_layers": [layer for layer in stepped if layer not in shape.experts],
        "router_aux_loss_coef": moe.router_aux_loss_coef,
        "output_router_logits": False,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
    }


def dots1_fields(shape: DecoderShape) -> dict[str, Any]:
    """Return what Dots1Config says beside Llama's."""
    return _sigmoid_fields(shape) | {
        "sliding_window": None,
        "layer_types": ["full_attention"] * shape.num_hidden_layers,
    }


def glm4_moe_fields(shape: DecoderShape) -> dict[str, Any]:
    """Return what Glm4MoeConfig says beside Llama's: no norm of queries and keys, all of a head rotated, no MTP layers."""
    return _sigmoid_fields(shape) | {"use_qk_norm": False, "partial_rotary_factor": 1.0, "num_nextn_predict_layers": 0}


def _sigmoid_fields(shape: DecoderShape) -> dict[str, Any]:
    moe = _moe(shape)
    return {
        "moe_intermediate_size": shape.expert_size,
        "n_routed_experts": _experts(shape),
        "n_shared_experts": moe.n_shared_experts,
        "num_experts_per_tok": moe.num_experts_per_tok,
        "first_k_dense_replace": min(shape.experts),
        "norm_topk_prob": moe.norm_topk_prob,
        "routed_scaling_factor": moe.routed_scaling_factor,
        "n_group": moe.n_group,
        "topk_group": moe.topk_group,
        "output_router_logits": False,
        "attention_dropout": 0.0,
    }


def mixtral_weights(weights: Mapping[str, Tensor], shape: DecoderShape) -> dict[str, Tensor]:
    """Return the weights of MixtralForCausalLM under the names of its public checkpoints."""
    return {_mixtral_name(name): tensor for name, tensor in llama_weights(weights, shape).items()}


def corrected_weights(weights: Mapping[str, Tensor], shape: DecoderShape) -> dict[str, Tensor]:
    """Return the weights of Dots1ForCausalLM and Glm4MoeForCausalLM, which always have a selection bias: zero if not ours."""
    found = llama_weights(weights, shape)
    for layer, experts in shape.experts.items():
        found.setdefault(f"model.layers.{layer}.{SELECTION_BIAS}", torch.zeros(experts))
    return found


def _mixtral_name(name: str) -> str:
    name = EXPERT.sub(lambda found: f".block_sparse_moe.experts.{found[1]}.{MIXTRAL_PARTS[found[2]]}.", name)
    return name.replace(".mlp.gate.", ".block_sparse_moe.gate.")


def _experts(shape: DecoderShape) -> int:
    """Number of routed experts, the same in each mixture layer of a model that a class holds."""
    (count,) = set(shape.experts.values())
    return count


def _moe(shape: DecoderShape) -> MoeSection:
    assert shape.moe is not None, "a mixture's config for a dense model"
    return shape.moe
