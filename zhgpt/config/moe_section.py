"""The mixture-of-experts block of the model's section: which layers, how tokens are routed, which layer computes it."""

from typing import Literal

from pydantic import Field

from zhgpt.config.section import Real, Section, Switch, Whole


class MoeSection(Section):
    """Mixture of experts in place of feed-forward layers."""

    layer: Literal["dropless", "deepspeed", "reference"] = "dropless"
    """What computes it: `dropless` sorts tokens by expert and drops none; `deepspeed` is DeepSpeed's own gate and experts,
    with a capacity; `reference` is a plain loop on one rank, for comparing."""
    num_experts: Whole = Field(gt=1)
    """Routed experts of a layer."""
    num_experts_per_tok: Whole = Field(default=2, gt=0)
    """Experts a token is sent to (top-k)."""
    moe_intermediate_size: Whole | None = Field(default=None, gt=0)
    """Width of one expert. Left out: model.intermediate_size."""
    decoder_sparse_step: Whole = Field(default=1, gt=0)
    """Every how manieth layer is a mixture: 1 all, 2 every other one (the second, the fourth …)."""
    first_k_dense_replace: Whole = Field(default=0, ge=0)
    """The first layers stay dense, this many."""
    num_experts_by_layer: tuple[Whole, ...] = ()
    """Another number of experts for each mixture layer, from below: a pyramid (DeepSpeed's PR-MoE). Exports to no class."""
    n_shared_experts: Whole = Field(default=0, ge=0)
    """Experts that every token passes, beside the routed ones."""
    routing: Literal["token_choice", "expert_choice"] = "token_choice"
    """Who chooses: each token its experts. `expert_choice` is refused: an expert that picks among a sequence's tokens
    sees later ones, which a causal model cannot do when it writes."""
    scoring_func: Literal["softmax", "sigmoid"] = "softmax"
    """From the router's logits to scores: over all experts, or each for itself (DeepSeek-V3)."""
    norm_topk_prob: Switch = True
    """Whether the weights of a token's experts are scaled to a sum of 1."""
    routed_scaling_factor: Real = Field(default=1.0, gt=0)
    """Factor of the weights (sigmoid scores)."""
    n_group: Whole = Field(default=1, gt=0)
    """Groups of experts for group-limited routing; 1: none."""
    topk_group: Whole = Field(default=1, gt=0)
    """Groups a token may be sent to: those whose two best experts score highest together."""
    router_aux_loss_coef: Real = Field(default=0.01, ge=0)
    """Weight of the load-balancing loss; 0 switches it off."""
    router_aux_loss_scope: Literal["micro_batch", "sequence", "global"] = "micro_batch"
    """Whose loads are balanced: a rank's micro batch, each sequence by itself, or the micro-step over all ranks."""
    router_z_loss_coef: Real = Field(default=0.0, ge=0)
    """Weight of the router z-loss, the mean square of logsumexp(logits), which keeps logits small (ST-MoE)."""
    bias_update_rate: Real = Field(default=0.0, ge=0)
    """Balancing without a loss (DeepSeek-V3): after each step the selection bias of experts above the mean load goes down
    by this much, that of those below up. 0: no bias."""
    capacity_factor: Real = Field(default=1.25, gt=0)
    """Slots an expert has in training relative to an even share of the tokens; evaluation drops none (deepspeed)."""
    min_capacity: Whole = Field(default=4, ge=0)
    """Slots an expert has at least (deepspeed)."""
    drop_tokens: Switch = True
    """Whether tokens past the capacity are dropped; if not, the capacity is that of the fullest expert (deepspeed)."""
    use_rts: Switch = True
    """Random token selection: which tokens are dropped is drawn instead of the last ones (deepspeed, top-1)."""
    noisy_gate_policy: Literal["Jitter", "RSample"] | None = None
    """Noise of the gate in training: on its input (Jitter) or on its logits (RSample, top-1) (deepspeed)."""
    top2_2nd_expert_sampling: Switch = True
    """Whether the second expert is drawn instead of taken (deepspeed, top-2)."""
    use_residual: Switch = False
    """Residual MoE: a dense expert beside the routed one, mixed by a learned coefficient (deepspeed). Exports to no class."""
