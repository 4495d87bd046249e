"""Settings that are fine alone and wrong together."""

from collections.abc import Callable

import pytest

from zhgpt.config.checks import nearest_multiples
from zhgpt.config.schema import RunConfig

LoadText = Callable[..., RunConfig]
Refusal = Callable[..., str]

SCALED = ("model.rope_scaling.rope_type=linear", "model.rope_scaling.factor=2")
YARN = ("model.rope_scaling.rope_type=yarn", "model.rope_scaling.factor=2")
LLAMA3 = ("model.rope_scaling.rope_type=llama3", "model.rope_scaling.factor=2")

PROBLEMS = [
    (
        ["train.kernels=liger", "train.compile=blocks"],
        "train.kernels liger does not go with train.compile blocks: compiled, these kernels have given wrong numbers; set one "
        "of them back to its default",
    ),
    (
        ["train.kernels=liger", "model.model_type=gpt2"],
        "train.kernels liger has no effect in gpt2: it has neither RMSNorm nor SwiGLU; leave it out",
    ),
    (
        ["train.recomputed_layers=2"],
        "train.recomputed_layers has no effect without train.activation_checkpointing=true; set it, or leave it out",
    ),
    (
        ["train.activation_checkpointing=true", "train.recomputed_layers=13"],
        "train.recomputed_layers 13: every n-th of 12 layers needs n from 1 to 12",
    ),
    (
        ["train.activation_checkpointing=true", "train.recomputed_layers=[0,12]"],
        "train.recomputed_layers: there is no layer 12; they go from 0 to 11",
    ),
    (
        ["train.activation_checkpointing=true", "train.recomputed_layers=[3,3]"],
        "train.recomputed_layers [3, 3] is empty or names a layer twice; name each once",
    ),
    (
        ["train.global_batch_tokens=2048"],
        "train.global_batch_tokens 2048 and train.global_batch_size 16 are both given: keep one, set the other to null",
    ),
    (
        ["health.on_spike=roll_back", "data.order=megatron"],
        "health.on_spike roll_back reads samples past the run's planned ones, and data.order megatron has none: its order "
        "depends on how many there are; take data.order index_free, or health.on_spike skip",
    ),
    (["launch.world_size=6", "launch.hosts=4"], "launch.world_size 6 is not a multiple of launch.hosts 4"),
    (
        ["model.max_position_embeddings=64"],
        "model.max_position_embeddings 64 is less than data.sequence_length 128; raise it or leave it out",
    ),
    (
        ["model.hidden_size=100", "model.num_attention_heads=8"],
        "model.hidden_size 100 is not a multiple of model.num_attention_heads 8; nearest: 96, 104",
    ),
    (
        ["model.hidden_size=36", "model.num_attention_heads=12"],
        "model.head_dim 3 is odd: rotary positions (qwen3) turn pairs of values; take 4",
    ),
    (
        ["model.num_key_value_heads=5"],
        "model.num_attention_heads 12 is not a multiple of model.num_key_value_heads 5; 12 heads can share 1, 2, 3, 4, "
        "6, 12",
    ),
    (
        ["model.model_type=gpt2", "model.num_key_value_heads=4"],
        "model.num_key_value_heads 4: gpt2 with learned positions has no grouped-query attention, it would have to be 12; "
        "leave it out, set model.position_embedding to rope, or take llama or qwen3",
    ),
    (
        ["model.model_type=gpt2", "model.head_dim=128"],
        "model.head_dim 128: gpt2 has hidden_size / num_attention_heads = 768 / 12; leave it out",
    ),
    (
        ["model.model_type=gpt2", "model.rope_theta=1e6"],
        "model.rope_theta 1000000.0 has no effect with learned positions (gpt2's); leave it out, or set "
        "model.position_embedding to rope",
    ),
    (
        ["model.model_type=gpt2", "model.rms_norm_eps=1e-5"],
        "model.rms_norm_eps 1e-05 has no effect in gpt2 (only in llama and qwen3); leave it out",
    ),
    (
        ["model.model_type=llama", "model.layer_norm_epsilon=1e-6"],
        "model.layer_norm_epsilon 1e-06 has no effect in llama (only in gpt2); leave it out",
    ),
    (
        ["model.model_type=gpt2", *SCALED],
        "model.rope_scaling has no effect with learned positions (gpt2's); leave it out, or set "
        "model.position_embedding to rope",
    ),
    (
        ["model.position_embedding=learned"],
        "model.position_embedding learned: qwen3 has rotary positions, and no transformers class holds its layers with "
        "learned ones; leave it out, or take gpt2",
    ),
    (
        [*SCALED, "model.rope_scaling.beta_fast=16"],
        "model.rope_scaling.beta_fast 16 has no effect in linear (only in yarn); leave it out",
    ),
    (
        [*LLAMA3, "model.rope_scaling.low_freq_factor=5"],
        "model.rope_scaling.low_freq_factor 5 must be less than model.rope_scaling.high_freq_factor 4",
    ),
    (
        [*YARN, "model.rope_scaling.beta_slow=40"],
        "model.rope_scaling.beta_slow 40 must be less than model.rope_scaling.beta_fast 32",
    ),
    (
        [*YARN, "model.rope_scaling.original_max_position_embeddings=512", "model.max_position_embeddings=256"],
        "model.rope_scaling.original_max_position_embeddings 512 exceeds model.max_position_embeddings 256: scaling is for "
        "longer sequences than the original ones",
    ),
    (
        ["model.mup_base_width=1024"],
        "model.mup_base_width 1024 exceeds model.hidden_size 768: settings are found at the base width and carried over to "
        "wider models; take the narrowest model's hidden_size",
    ),
]


@pytest.mark.parametrize(("overrides", "sentence"), PROBLEMS)
def test_what_cannot_go_together_is_refused(refusal: Refusal, overrides: list[str], sentence: str) -> None:
    message = refusal(*overrides)
    assert len(message.splitlines()) == 1
    assert message.endswith(f": {sentence}")


def test_a_joint_problem_names_the_place_of_its_first_key(refusal: Refusal) -> None:
    assert refusal("model.hidden_size=100").startswith("override model.hidden_size=100: model.hidden_size")
    text = "data: {train: x}\ntrain:\n  global_batch_tokens: 8\n  global_batch_size: 8\n  steps: 3\n"
    assert refusal(text=text).startswith("run.yaml line 3: train.global_batch_tokens 8 and")


def test_joint_problems_are_all_told(refusal: Refusal) -> None:
    assert len(refusal("train.global_batch_tokens=2048", "model.hidden_size=100").splitlines()) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.head_dim=64", "model.hidden_size=100"],  # heads need not fill the hidden size outside gpt2
        ["model.model_type=gpt2", "model.hidden_size=36"],  # odd heads are fine without rotary positions
        ["model.model_type=gpt2", "model.num_key_value_heads=12", "model.head_dim=64"],  # what gpt2 has anyway
        ["schedule.name=wsd", "schedule.warmup_steps=80"],
        ["schedule.name=constant", "schedule.warmup_steps=99", "schedule.decay_fraction=0.9"],
        ["schedule.warmup_steps=1000"],  # a short trial of a long recipe; advice.py warns
        ["launch.world_size=8", "launch.hosts=4"],
        ["model.model_type=gpt2", "model.tie_word_embeddings=false"],
        ["model.model_type=gpt2", "model.position_embedding=rope", "model.num_key_value_heads=4", *SCALED],
        ["model.position_embedding=rope", "model.rope_theta=1e6", *LLAMA3],
    ],
)
def test_what_can_go_together_is_accepted(load_text: LoadText, overrides: list[str]) -> None:
    load_text(*overrides)


@pytest.mark.parametrize(
    ("steps", "warmup"), [(1, 0), (2, 1), (20, 1), (100, 2), (5_000, 100), (100_000, 2_000), (1_000_000, 2_000)]
)
def test_a_warmup_left_out_is_two_percent(load_text: LoadText, steps: int, warmup: int) -> None:
    assert load_text(f"train.steps={steps}").schedule.warmup_steps == warmup


@pytest.mark.parametrize(("value", "unit", "text"), [(500, 128, "384, 512"), (5, 128, "128"), (129, 128, "128, 256")])
def test_nearest_multiples(value: int, unit: int, text: str) -> None:
    assert nearest_multiples(value, unit) == text


@pytest.mark.parametrize(
    ("overrides", "layers"),
    [
        ([], ()),
        (["train.activation_checkpointing=true"], tuple(range(12))),
        (["train.activation_checkpointing=true", "train.recomputed_layers=5"], (4, 9)),
        (["train.activation_checkpointing=true", "train.recomputed_layers=[11,0]"], (11, 0)),
    ],
)
def test_layers_are_recomputed_as_the_settings_say(
    load_text: LoadText, overrides: list[str], layers: tuple[int, ...]
) -> None:
    assert load_text(*overrides).train.layers_to_recompute(12) == layers
