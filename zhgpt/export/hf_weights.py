"""Our parameter names and layouts to those of transformers' classes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from zhgpt.errors import BadDataError
from zhgpt.model.shape import DecoderShape

VOCABULARY_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    """Check that ``weights`` has exactly the parameters of the model.

    Raises:
        BadDataError: one is missing, superfluous or of another shape.
    """
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or unknown:
        raise BadDataError(
            f"the checkpoint's weights are not this model's: missing {_some(missing)}, not of the model "
            f"{_some(unknown)}; the model section and the weights must come from the same run."
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise BadDataError(
                f"the checkpoint's {name} has shape {list(weights[name].shape)} and the model section says "
                f"{list(shape)}; they must come from the same run."
            )


def llama_weights(weights: Mapping[str, Tensor], shape: DecoderShape) -> dict[str, Tensor]:
    """Return the weights of LlamaForCausalLM and Qwen3ForCausalLM: the same names, the vocabulary cut back."""
    return {name: _cut(name, tensor, shape) for name, tensor in weights.items()}


def starcoder2_weights(weights: Mapping[str, Tensor], shape: DecoderShape) -> dict[str, Tensor]:
    """Return the weights of Starcoder2ForCausalLM, which is GPT-2 with rotary positions; only its feed-forward layer has
    other names."""
    renamed = {name.replace("mlp.up_proj", "mlp.c_fc").replace("mlp.down_proj", "mlp.c_proj"): name for name in weights}
    return {theirs: _cut(ours, weights[ours], shape) for theirs, ours in renamed.items()}


def gpt2_weights(weights: Mapping[str, Tensor], shape: DecoderShape) -> dict[str, Tensor]:
    """Return the weights of GPT2LMHeadModel.

    Its linear layers are ``Conv1D``: (input, output), the transpose of ours; query, key and value are one matrix.
    """
    found = {
        "transformer.wte.weight": _cut("model.embed_tokens.weight", weights["model.embed_tokens.weight"], shape),
        "transformer.wpe.weight": weights["model.embed_positions.weight"],
        "transformer.ln_f.weight": weights["model.norm.weight"],
        "transformer.ln_f.bias": weights["model.norm.bias"],
    }
    if not shape.tie_word_embeddings:
        found["lm_head.weight"] = _cut("lm_head.weight", weights["lm_head.weight"], shape)
    for layer in range(shape.num_hidden_layers):
        found.update(_gpt2_layer(weights, f"model.layers.{layer}.", f"transformer.h.{layer}."))
    return found


def _gpt2_layer(weights: Mapping[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    parts = [f"{ours}self_attn.{part}_proj." for part in "qkv"]
    linears = {
        "attn.c_proj": "self_attn.o_proj",
        "mlp.c_fc": "mlp.up_proj",
        "mlp.c_proj": "mlp.down_proj",
    }
    norms = {"ln_1": "input_layernorm", "ln_2": "post_attention_layernorm"}
    found = {
        f"{theirs}attn.c_attn.weight": torch.cat([weights[part + "weight"] for part in parts]).t(),
        f"{theirs}attn.c_attn.bias": torch.cat([weights[part + "bias"] for part in parts]),
    }
    for name, our_name in linears.items():
        found[f"{theirs}{name}.weight"] = weights[f"{ours}{our_name}.weight"].t()
        found[f"{theirs}{name}.bias"] = weights[f"{ours}{our_name}.bias"]
    for name, our_name in norms.items():
        found[f"{theirs}{name}.weight"] = weights[f"{ours}{our_name}.weight"]
        found[f"{theirs}{name}.bias"] = weights[f"{ours}{our_name}.bias"]
    return found


def _cut(name: str, tensor: Tensor, shape: DecoderShape) -> Tensor:
    """The table without the rows that padded it in training."""
    return tensor[: shape.vocab_size] if name in VOCABULARY_TABLES else tensor


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "nothing"
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
