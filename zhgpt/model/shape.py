"""The sizes of one decoder, and what follows from them by arithmetic alone: parameters and FLOPs. Needs no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from zhgpt.config.architecture_checks import position_embedding_of, query_key_norm_of
from zhgpt.config.moe_checks import experts_in
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.rope_section import RopeScalingSection
from zhgpt.config.schema import ModelSection


@dataclass(frozen=True)
class DecoderShape:
    """A resolved model section as plain numbers: what the layers are built from.

    ``padded_vocab_size`` is the number of rows of the token table in training; ids from ``vocab_size`` on never occur
    and never win. ``learned_positions``: a learned vector per position is added; otherwise queries and keys are rotated.
    ``query_key_norm``: queries and keys are RMS-normalised per head. ``embedding_norm``: the tokens' vectors are normalised
    as they enter. ``width_ratio``: hidden size over ``mup_base_width``, 1 without. ``experts`` has the number of routed
    experts by the index of the layer; a layer without is dense.
    """

    model_type: str
    vocab_size: int
    padded_vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    learned_positions: bool
    rope_theta: float
    rope_scaling: RopeScalingSection | None
    query_key_norm: bool
    norm_epsilon: float
    embedding_norm: bool
    tie_word_embeddings: bool
    width_ratio: float
    moe: MoeSection | None
    experts: dict[int, int]

    @property
    def biases(self) -> bool:
        """Linear and norm layers carry biases (GPT-2 only; experts never do)."""
        return self.model_type == "gpt2"

    @property
    def gated_feed_forward(self) -> bool:
        """SwiGLU with three matrices instead of GELU with two."""
        return self.model_type != "gpt2"

    @property
    def expert_size(self) -> int:
        """Width of one expert."""
        assert self.moe is not None, "expert_size of a dense model"
        return _resolved(self.moe.moe_intermediate_size, "moe.moe_intermediate_size")


@dataclass(frozen=True)
class ParameterCount:
    """Parameters in training (padded vocabulary); a tied table counts once.

    ``embedding`` holds the tables indexed by token or position and an untied output head, ``non_embedding`` the rest;
    ``active`` is what one token passes: all but the experts that it is not sent to.
    """

    total: int
    embedding: int
    non_embedding: int
    active: int


def decoder_shape(model: ModelSection) -> DecoderShape:
    """Return the sizes of a resolved model section (every None filled in by ``resolve_model``)."""
    return DecoderShape(
        model_type=model.model_type,
        vocab_size=_resolved(model.vocab_size, "vocab_size"),
        padded_vocab_size=model.padded_vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=_resolved(model.num_key_value_heads, "num_key_value_heads"),
        head_dim=_resolved(model.head_dim, "head_dim"),
        intermediate_size=_resolved(model.intermediate_size, "intermediate_size"),
        max_position_embeddings=_resolved(model.max_position_embeddings, "max_position_embeddings"),
        learned_positions=position_embedding_of(model) == "learned",
        rope_theta=model.rope_theta,
        rope_scaling=model.rope_scaling,
        query_key_norm=query_key_norm_of(model),
        norm_epsilon=model.layer_norm_epsilon if model.model_type == "gpt2" else model.rms_norm_eps,
        embedding_norm=model.embedding_norm,
        tie_word_embeddings=model.tie_word_embeddings,
        width_ratio=1.0 if model.mup_base_width is None else model.hidden_size / model.mup_base_width,
        moe=model.moe,
        experts={} if model.moe is None else experts_in(model.moe, model.num_hidden_layers),
    )


def count_parameters(model: ModelSection) -> ParameterCount:
    """Count the parameters of a resolved model section, as trained (with the padded vocabulary)."""
    shape = decoder_shape(model)
    bias = 1 if shape.biases else 0
    norm = shape.hidden_size * (1 + bias)
    linears = sum(rows * (columns + bias) for rows, columns in _attention_matrices(shape))
    per_layer = linears + 2 * norm + (2 * shape.head_dim if shape.query_key_norm else 0)
    non_embedding = shape.num_hidden_layers * per_layer + norm + (norm if shape.embedding_norm else 0)
    idle = 0
    for layer in range(shape.num_hidden_layers):
        if layer in shape.experts:
            mixture = _mixture_parameters(shape, shape.experts[layer])
            non_embedding += mixture.total
            idle += mixture.total - mixture.active
        else:
            matrices = _feed_forward_matrices(shape, shape.intermediate_size)
            non_embedding += sum(rows * (columns + bias) for rows, columns in matrices)
    tables = 1 if shape.tie_word_embeddings else 2
    embedding = tables * shape.padded_vocab_size * shape.hidden_size
    if shape.learned_positions:
        embedding += shape.max_position_embeddings * shape.hidden_size
    total = embedding + non_embedding
    return ParameterCount(total=total, embedding=embedding, non_embedding=non_embedding, active=total - idle)


def flops_per_token(model: ModelSection, sequence_length: int) -> int:
    """Return the FLOPs of one forward and backward pass for one token.

    Counts matrix products only: 6 for each weight that multiplies (the output head with its padded rows included, table
    look-ups not; of a mixture the router and the experts that a token is sent to) and
    ``12 * layers * heads * head_dim * sequence_length`` for attention over the full square, the convention of the PaLM
    paper's MFU (appendix B): causal and document masks do not lower it, and activation checkpointing does not raise it.
    """
    shape = decoder_shape(model)
    weights = shape.num_hidden_layers * _size(_attention_matrices(shape))
    for layer in range(shape.num_hidden_layers):
        if layer in shape.experts:
            weights += _mixture_parameters(shape, shape.experts[layer]).multiplied
        else:
            weights += _size(_feed_forward_matrices(shape, shape.intermediate_size))
    weights += shape.padded_vocab_size * shape.hidden_size
    attention = 12 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * sequence_length
    return 6 * weights + attention


def hidden_matrices(model: ModelSection) -> Counter[tuple[int, int]]:
    """How many matrices of each size (output, input) the layers have, those of every expert among them: what Muon steps."""
    shape = decoder_shape(model)
    sizes: Counter[tuple[int, int]] = Counter()
    for layer in range(shape.num_hidden_layers):
        sizes.update(_attention_matrices(shape))
        if layer not in shape.experts:
            sizes.update(_feed_forward_matrices(shape, shape.intermediate_size))
            continue
        assert shape.moe is not None
        alone = shape.experts[layer] + (1 if shape.moe.use_residual else 0)
        sizes.update(_feed_forward_matrices(shape, shape.expert_size) * alone)
        if shape.moe.n_shared_experts:  # they are one layer, as wide as all of them
            sizes.update(_feed_forward_matrices(shape, shape.moe.n_shared_experts * shape.expert_size))
    return sizes


@dataclass(frozen=True)
class _Mixture:
    """Parameters of one mixture layer: all, those a token passes, and of these the ones in matrix products."""

    total: int
    active: int
    multiplied: int


def _mixture_parameters(shape: DecoderShape, experts: int) -> _Mixture:
    moe = shape.moe
    assert moe is not None
    expert = _size(_feed_forward_matrices(shape, shape.expert_size))
    router = experts * shape.hidden_size
    always = router + moe.n_shared_experts * expert
    # Residual MoE: one more dense expert and a coefficient of two outputs with biases.
    mixing = 2 * shape.hidden_size if moe.use_residual else 0
    always += expert + mixing if moe.use_residual else 0
    multiplied = always + moe.num_experts_per_tok * expert
    biases = 2 if moe.use_residual else 0
    return _Mixture(always + biases + experts * expert, multiplied + biases, multiplied)


def _attention_matrices(shape: DecoderShape) -> list[tuple[int, int]]:
    """The weight matrices of attention in one layer as (output, input) sizes."""
    hidden = shape.hidden_size
    query = shape.num_attention_heads * shape.head_dim
    key_value = shape.num_key_value_heads * shape.head_dim
    return [(query, hidden), (key_value, hidden), (key_value, hidden), (hidden, query)]


def _feed_forward_matrices(shape: DecoderShape, width: int) -> list[tuple[int, int]]:
    """The weight matrices of a feed-forward layer, or of one expert, as (output, input) sizes."""
    widening = [(width, shape.hidden_size)] * (2 if shape.gated_feed_forward else 1)
    return [*widening, (shape.hidden_size, width)]


def _size(matrices: list[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in matrices)


def _resolved(value: int | None, name: str) -> int:
    assert value is not None, f"model.{name} is not resolved: pass what resolve_model returns"
    return value
