"""The first weights of a run taken from another run; a mixture of experts may start from a dense one (upcycling)."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from zhgpt.checkpoint.consolidated import load_consolidated
from zhgpt.config.schema import ModelSection
from zhgpt.errors import SettingError
from zhgpt.model.moe.names import canonical_parts
from zhgpt.model.shape import decoder_shape

EXPERT = re.compile(r"^(.*\.mlp)\.(?:experts\.\d+|residual)\.(.*)$")
FRESH = re.compile(r"\.mlp\.(?:gate|coefficient)\.")
"""What a dense model has nothing for: the router, and the mixing of a residual expert."""

MAY_DIFFER = (
    *("moe", "attention_backend", "pad_vocab_size_multiple"),
    *("max_position_embeddings", "rope_theta", "rope_scaling"),  # longer sequences than those trained on
    *("initializer_range", "residual_init"),
)
"""Settings of the model that need not be those of the first weights."""


@torch.no_grad()
def load_initial_weights(module: nn.Module, model: ModelSection, path: str, *, ep_rank: int, ep_size: int) -> str:
    """Overwrite a whole (not yet partitioned) module's weights with those of a checkpoint, before training starts.

    Where the checkpoint is dense and the model a mixture, every expert becomes a copy of the feed-forward layer (sparse
    upcycling, arXiv 2212.05055); the router keeps its own first weights. With weights that sum to 1 the mixture then
    computes what the dense model does.

    Args:
        module: with first weights.
        model: its resolved section.
        path: a run or a step folder of its checkpoints.
        ep_rank: this rank's place among those that share the experts.
        ep_size: how many they are.

    Returns:
        One sentence about what was done.

    Raises:
        SettingError: the checkpoint is of another shape.
        MissingInputError, BadDataError: there is no complete checkpoint.
    """
    saved = load_consolidated(Path(path))
    upcycling = saved.model.moe is None and model.moe is not None
    problems = _differences(saved.model, model, upcycling=upcycling)
    if problems:
        raise SettingError(f"train.initial_weights {path}: {'; '.join(problems)}")
    local_experts = {layer: count // ep_size for layer, count in decoder_shape(model).experts.items()}
    for running_name, parameter in module.named_parameters():
        layer = re.search(r"\.layers\.(\d+)\.mlp\.", running_name)
        count = local_experts.get(int(layer[1]), 0) if layer else 0
        for name, values in canonical_parts(running_name, parameter, ep_rank, count):
            source = saved.state_dict.get(_source(name) if upcycling else name)
            if source is not None:
                _copy(values, source, saved.model, model)
            elif not (upcycling and FRESH.search(name)):
                raise SettingError(f"train.initial_weights {path} has no {name}; take a run of the same model")
    if not upcycling:
        _copy_biases(module, saved.state_dict)
    made = "each expert a copy of the dense feed-forward layer" if upcycling else "the same model"
    return f"first weights from {saved.path} (step {saved.step}): {made}"


def _source(name: str) -> str:
    """The dense weight that a mixture's weight starts from."""
    found = EXPERT.match(name)
    return f"{found[1]}.{found[2]}" if found else name


def _copy_biases(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """The routers' selection biases, which are no parameters."""
    for name, part in module.named_modules():
        bias = getattr(part, "e_score_correction_bias", None)
        if bias is not None:
            bias.copy_(weights[f"{name}.e_score_correction_bias"])


def _copy(values: Tensor, source: Tensor, saved: ModelSection, model: ModelSection) -> None:
    """The tables may be padded to other numbers of rows; what pads stays 0."""
    rows = min(source.shape[0], values.shape[0])
    if saved.padded_vocab_size != model.padded_vocab_size and source.shape[0] == saved.padded_vocab_size:
        values[:rows] = source[:rows].to(values.dtype)
    else:
        values.copy_(source)


def _differences(saved: ModelSection, model: ModelSection, *, upcycling: bool) -> list[str]:
    problems = [
        f"model.{name} is {getattr(model, name)!r} but was {getattr(saved, name)!r} there"
        for name in ModelSection.model_fields
        if name not in MAY_DIFFER and getattr(saved, name) != getattr(model, name)
    ]
    moe = model.moe
    if not upcycling or moe is None:
        without_layer = {"layer": "dropless"}
        before = saved.moe and saved.moe.model_copy(update=without_layer)
        if before != (moe and moe.model_copy(update=without_layer)):
            problems.append("model.moe is another there; only a dense run can become another mixture")
        return problems
    if moe.moe_intermediate_size != saved.intermediate_size:
        problems.append(
            f"model.moe.moe_intermediate_size is {moe.moe_intermediate_size}, but an expert that starts as a copy has the "
            f"{saved.intermediate_size} of the dense feed-forward layer"
        )
    if moe.n_shared_experts:
        problems.append(
            "model.moe.n_shared_experts: a shared expert beside copies would double the layer's output; set it to 0"
        )
    if saved.model_type == "gpt2":
        problems.append("gpt2's feed-forward layers have biases and experts have none")
    return problems
