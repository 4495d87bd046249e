"""Fills in what a model's section left open."""

from zhgpt.config.architecture_checks import position_embedding_of, query_key_norm_of
from zhgpt.config.checks import model_problems
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.errors import SettingError

SWIGLU_MULTIPLE = 64


def resolve_model(config: RunConfig, vocab_size: int) -> ModelSection:
    """The model's section with nothing left open.

    Args:
        config: the run's settings.
        vocab_size: ids of the tokenizer of the dataset; `model.vocab_size` may exceed it, not fall short of it.

    Raises:
        SettingError: the model's vocabulary cannot hold the tokenizer's, or the shape does not fit together.
    """
    model = config.model
    if model.vocab_size is not None and model.vocab_size < vocab_size:
        raise SettingError(
            f"model.vocab_size {model.vocab_size} is less than the {vocab_size} ids of the dataset's tokenizer; "
            "leave it out, or raise it"
        )
    problems = model_problems(model, config.data.sequence_length)
    if problems:
        raise SettingError("\n".join(problems))
    heads, hidden = model.num_attention_heads, model.hidden_size
    intermediate = model.intermediate_size or default_intermediate_size(model.model_type, hidden)
    return fill_options(model).model_copy(
        update={
            "vocab_size": model.vocab_size or vocab_size,
            "num_key_value_heads": model.num_key_value_heads or heads,
            "head_dim": model.head_dim or hidden // heads,
            "intermediate_size": intermediate,
            "max_position_embeddings": model.max_position_embeddings or config.data.sequence_length,
            "moe": _resolve_moe(model.moe, intermediate),
        }
    )


def fill_options(model: ModelSection) -> ModelSection:
    """The section with those options filled in that the model type decides: also one saved before there were any."""
    return model.model_copy(
        update={"position_embedding": position_embedding_of(model), "use_qk_norm": query_key_norm_of(model)}
    )


def _resolve_moe(moe: MoeSection | None, intermediate_size: int) -> MoeSection | None:
    if moe is None or moe.moe_intermediate_size is not None:
        return moe
    return moe.model_copy(update={"moe_intermediate_size": intermediate_size})


def default_intermediate_size(model_type: str, hidden_size: int) -> int:
    """4 x hidden for gpt2; else 8/3 x hidden rounded up to a multiple of 64 (same weights, three matrices)."""
    if model_type == "gpt2":
        return 4 * hidden_size
    return -(-8 * hidden_size // (3 * SWIGLU_MULTIPLE)) * SWIGLU_MULTIPLE
