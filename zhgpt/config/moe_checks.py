"""What cannot go together in a mixture of experts, as one sentence a problem."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zhgpt.config.moe_section import MoeSection
    from zhgpt.config.schema import ModelSection

DEEPSPEED_ONLY = (
    "capacity_factor",
    "min_capacity",
    "drop_tokens",
    "use_rts",
    "noisy_gate_policy",
    "top2_2nd_expert_sampling",
    "use_residual",
)
"""Settings that DeepSpeed's gate alone reads."""

NOT_IN_DEEPSPEED = (
    "scoring_func",
    "routed_scaling_factor",
    "n_group",
    "topk_group",
    "router_aux_loss_scope",
    "router_z_loss_coef",
    "bias_update_rate",
)
"""Settings that DeepSpeed's gate has no place for."""

GROUPED_MULTIPLE = 8
"""Rows of 16 bytes in bf16: what torch's grouped matrix product needs."""


def moe_problems(model: "ModelSection") -> list[str]:
    """What is wrong with the mixture of experts of a model, whether or not its open values are filled in."""
    moe = model.moe
    if moe is None:
        return []
    return [
        *_routing_problems(moe),
        *_group_problems(moe),
        *_layer_problems(moe),
        *_depth_problems(moe, model.num_hidden_layers),
        *_width_problems(model, moe),
    ]


def mixture_layers(moe: "MoeSection", num_hidden_layers: int) -> list[int]:
    """The indices of the layers that are mixtures, from 0."""
    return [
        layer
        for layer in range(moe.first_k_dense_replace, num_hidden_layers)
        if (layer + 1) % moe.decoder_sparse_step == 0
    ]


def experts_in(moe: "MoeSection", num_hidden_layers: int) -> dict[int, int]:
    """Number of experts by the index of the layer."""
    layers = mixture_layers(moe, num_hidden_layers)
    counts = moe.num_experts_by_layer or (moe.num_experts,) * len(layers)
    return dict(zip(layers, counts, strict=True))


def _routing_problems(moe: "MoeSection") -> list[str]:
    problems = []
    if moe.routing == "expert_choice":
        problems.append(
            "model.moe.routing expert_choice: an expert would choose among the tokens of a sequence, later ones among them, "
            "so the model could not write as it was trained; leave it out (token_choice)"
        )
    fewest = min((moe.num_experts, *moe.num_experts_by_layer))
    if moe.num_experts_per_tok > fewest:
        problems.append(
            f"model.moe.num_experts_per_tok {moe.num_experts_per_tok} is more than the {fewest} experts of a layer"
        )
    return problems


def _group_problems(moe: "MoeSection") -> list[str]:
    if moe.n_group == 1 and moe.topk_group == 1:
        return []
    problems = []
    for count in sorted({moe.num_experts, *moe.num_experts_by_layer}):
        if count % moe.n_group or count // moe.n_group < 2:
            problems.append(
                f"model.moe.n_group {moe.n_group} does not cut {count} experts into equal groups of at least 2 (a "
                "group counts by its two best experts)"
            )
    if moe.topk_group > moe.n_group:
        problems.append(f"model.moe.topk_group {moe.topk_group} is more than model.moe.n_group {moe.n_group}")
    within = moe.topk_group * (moe.num_experts // moe.n_group)
    if not problems and moe.num_experts_per_tok > within:
        problems.append(
            f"model.moe.num_experts_per_tok {moe.num_experts_per_tok} is more than the {within} experts of model.moe.topk_group "
            f"{moe.topk_group} groups"
        )
    return problems


def _layer_problems(moe: "MoeSection") -> list[str]:
    """Settings that the layer does not read, or that DeepSpeed's gate decides by itself."""
    unread = NOT_IN_DEEPSPEED if moe.layer == "deepspeed" else DEEPSPEED_ONLY
    problems = []
    for name in unread:
        value, default = getattr(moe, name), type(moe).model_fields[name].default
        if value != default:
            instead = "take layer: dropless" if moe.layer == "deepspeed" else "leave it out, or take layer: deepspeed"
            problems.append(f"model.moe.{name} {value} has no effect in the {moe.layer} layer; {instead}")
    if moe.layer == "deepspeed" and moe.norm_topk_prob != (moe.num_experts_per_tok > 1):
        told = "never" if moe.num_experts_per_tok == 1 else "always"
        needed = str(moe.num_experts_per_tok > 1).lower()
        problems.append(
            f"model.moe.norm_topk_prob {str(moe.norm_topk_prob).lower()}: DeepSpeed's gate {told} scales the weights at top-"
            f"{moe.num_experts_per_tok}; set it to {needed}"
        )
    if moe.layer != "deepspeed" and moe.scoring_func == "softmax" and moe.routed_scaling_factor != 1.0:
        problems.append(
            f"model.moe.routed_scaling_factor {moe.routed_scaling_factor:g} is for sigmoid scores; leave it out, or set "
            "model.moe.scoring_func to sigmoid"
        )
    return problems


def _depth_problems(moe: "MoeSection", num_hidden_layers: int) -> list[str]:
    layers = mixture_layers(moe, num_hidden_layers)
    if not layers:
        return [
            f"model.moe: no layer of {num_hidden_layers} is a mixture with first_k_dense_replace {moe.first_k_dense_replace} and "
            f"decoder_sparse_step {moe.decoder_sparse_step}; lower them"
        ]
    if moe.num_experts_by_layer and len(moe.num_experts_by_layer) != len(layers):
        return [
            f"model.moe.num_experts_by_layer has {len(moe.num_experts_by_layer)} numbers, but {len(layers)} layers are mixtures"
        ]
    return []


def _width_problems(model: "ModelSection", moe: "MoeSection") -> list[str]:
    if moe.layer != "dropless":
        return []
    sizes = {
        "model.hidden_size": model.hidden_size,
        "model.moe.moe_intermediate_size": moe.moe_intermediate_size or model.intermediate_size,
    }
    return [
        f"{name} {size} is not a multiple of {GROUPED_MULTIPLE}, which the grouped matrix product of the dropless layer needs"
        for name, size in sizes.items()
        if size is not None and size % GROUPED_MULTIPLE
    ]
