"""What a model's section leaves open is filled in by rule."""

from collections.abc import Callable

import pytest

from zhgpt.config.model_shape import default_intermediate_size, resolve_model
from zhgpt.config.schema import ModelSection, RunConfig
from zhgpt.errors import SettingError

LoadText = Callable[..., RunConfig]


def test_everything_left_open_is_filled_in(load_text: LoadText) -> None:
    model = resolve_model(load_text(), 32_000)
    assert (model.vocab_size, model.num_key_value_heads, model.head_dim) == (32_000, 12, 64)
    assert (model.intermediate_size, model.max_position_embeddings) == (2048, 128)
    left_out = {"moe", "rope_scaling", "mup_base_width"}
    assert None not in model.model_dump(exclude=left_out).values()
    assert all(getattr(model, name) is None for name in left_out)


@pytest.mark.parametrize(
    ("model_type", "options"), [("gpt2", ("learned", False)), ("llama", ("rope", False)), ("qwen3", ("rope", True))]
)
def test_the_model_type_decides_what_was_left_open(
    load_text: LoadText, model_type: str, options: tuple[str, bool]
) -> None:
    model = resolve_model(load_text(f"model.model_type={model_type}"), 100)
    assert (model.position_embedding, model.use_qk_norm) == options


def test_what_was_given_stays(load_text: LoadText) -> None:
    given = ["vocab_size=50000", "num_key_value_heads=4", "head_dim=32", "intermediate_size=100"]
    model = resolve_model(load_text(*(f"model.{item}" for item in given), "model.max_position_embeddings=512"), 32_000)
    assert (model.vocab_size, model.num_key_value_heads, model.head_dim) == (50_000, 4, 32)
    assert (model.intermediate_size, model.max_position_embeddings) == (100, 512)


def test_resolving_twice_changes_nothing(load_text: LoadText) -> None:
    config = load_text()
    model = resolve_model(config, 32_000)
    assert resolve_model(config.model_copy(update={"model": model}), 32_000) == model


@pytest.mark.parametrize(
    ("model_type", "hidden", "size"),
    [("gpt2", 768, 3072), ("llama", 768, 2048), ("qwen3", 1024, 2752), ("qwen3", 2048, 5504), ("qwen3", 192, 512)],
)
def test_feed_forward_width_keeps_the_weights_of_gpt2(model_type: str, hidden: int, size: int) -> None:
    assert default_intermediate_size(model_type, hidden) == size


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(load_text: LoadText) -> None:
    with pytest.raises(SettingError) as caught:
        resolve_model(load_text("model.vocab_size=100"), 32_000)
    assert str(caught.value) == (
        "model.vocab_size 100 is less than the 32000 ids of the dataset's tokenizer; leave it out, or raise it"
    )


def test_a_shape_made_in_code_is_checked_too(load_text: LoadText) -> None:
    config = load_text().model_copy(update={"model": ModelSection(hidden_size=10, num_attention_heads=3)})
    with pytest.raises(SettingError, match=r"model.hidden_size 10 is not a multiple of model.num_attention_heads 3"):
        resolve_model(config, 100)


@pytest.mark.parametrize(
    ("vocab", "multiple", "padded"), [(100, 64, 128), (128, 64, 128), (50_257, 64, 50_304), (7, 1, 7)]
)
def test_the_vocabulary_is_padded_to_a_multiple(vocab: int, multiple: int, padded: int) -> None:
    assert ModelSection(vocab_size=vocab, pad_vocab_size_multiple=multiple).padded_vocab_size == padded
