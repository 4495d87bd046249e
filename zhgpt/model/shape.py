"""The sizes of one decoder, and what follows from them by arithmetic alone: parameters and FLOPs. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from zhgpt.config.schema import ModelSection


@dataclass(frozen=True)
class DecoderShape:
    """A resolved model section as plain numbers: what the layers are built from.

    ``padded_vocab_size`` is the number of rows of the token table in training; ids from ``vocab_size`` on never occur
    and never win.
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
    rope_theta: float
    norm_epsilon: float
    tie_word_embeddings: bool

    @property
    def learned_positions(self) -> bool:
        """GPT-2 adds a learned vector per position; the others rotate queries and keys."""
        return self.model_type == "gpt2"

    @property
    def biases(self) -> bool:
        """Linear and norm layers carry biases (GPT-2 only)."""
        return self.model_type == "gpt2"

    @property
    def query_key_norm(self) -> bool:
        """Queries and keys are RMS-normalised per head (Qwen3)."""
        return self.model_type == "qwen3"

    @property
    def gated_feed_forward(self) -> bool:
        """SwiGLU with three matrices instead of GELU with two."""
        return self.model_type != "gpt2"


@dataclass(frozen=True)
class ParameterCount:
    """Parameters in training (padded vocabulary); a tied table counts once.

    ``embedding`` holds the tables indexed by token or position and an untied output head, ``non_embedding`` the rest.
    """

    total: int
    embedding: int
    non_embedding: int


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
        rope_theta=model.rope_theta,
        norm_epsilon=model.layer_norm_epsilon if model.model_type == "gpt2" else model.rms_norm_eps,
        tie_word_embeddings=model.tie_word_embeddings,
    )


def count_parameters(model: ModelSection) -> ParameterCount:
    """Count the parameters of a resolved model section, as trained (with the padded vocabulary)."""
    shape = decoder_shape(model)
    bias = 1 if shape.biases else 0
    norm = shape.hidden_size * (1 + bias)
    linears = sum(rows * (columns + bias) for rows, columns in _layer_matrices(shape))
    per_layer = linears + 2 * norm + (2 * shape.head_dim if shape.query_key_norm else 0)
    non_embedding = shape.num_hidden_layers * per_layer + norm
    tables = 1 if shape.tie_word_embeddings else 2
    embedding = tables * shape.padded_vocab_size * shape.hidden_size
    if shape.learned_positions:
        embedding += shape.max_position_embeddings * shape.hidden_size
    return ParameterCount(total=embedding + non_embedding, embedding=embedding, non_embedding=non_embedding)


def flops_per_token(model: ModelSection, sequence_length: int) -> int:
    """Return the FLOPs of one forward and backward pass for one token.

    Counts matrix products only: 6 for each weight that multiplies (the output head with its padded rows included, table
    look-ups not) and ``12 * layers * heads * head_dim * sequence_length`` for attention over the full square, the
    convention of the PaLM paper's MFU (appendix B): causal and document masks do not lower it, and activation
    checkpointing does not raise it.
    """
    shape = decoder_shape(model)
    weights = shape.num_hidden_layers * sum(rows * columns for rows, columns in _layer_matrices(shape))
    weights += shape.padded_vocab_size * shape.hidden_size
    attention = 12 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * sequence_length
    return 6 * weights + attention


def _layer_matrices(shape: DecoderShape) -> list[tuple[int, int]]:
    """The weight matrices of one layer as (output, input) sizes."""
    hidden = shape.hidden_size
    query = shape.num_attention_heads * shape.head_dim
    key_value = shape.num_key_value_heads * shape.head_dim
    attention = [(query, hidden), (key_value, hidden), (key_value, hidden), (hidden, query)]
    widening = [(shape.intermediate_size, hidden)] * (2 if shape.gated_feed_forward else 1)
    return [*attention, *widening, (hidden, shape.intermediate_size)]


def _resolved(value: int | None, name: str) -> int:
    assert value is not None, f"model.{name} is not resolved: pass what resolve_model returns"
    return value
