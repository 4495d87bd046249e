"""The text of `--dry-run`."""

import json
from collections.abc import Callable

import pytest

from zhgpt.config.advice import RunNumbers, SourceReading
from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.deepspeed_json import compose_deepspeed_config
from zhgpt.config.description import describe_model, describe_options, describe_run, describe_schedule, run_facts
from zhgpt.config.model_shape import resolve_model
from zhgpt.config.quantities import count_text
from zhgpt.config.schema import RunConfig

LoadText = Callable[..., RunConfig]
NUMBERS = RunNumbers(
    parameters=4_000_000, embedding_parameters=1_000_000, flops_per_token=24_000_000, train_tokens=102_400
)


@pytest.fixture
def text(load_text: LoadText) -> str:
    """The description of a small run."""
    config = load_text("run.name=small", "model.num_key_value_heads=4", "optim.learning_rate=6e-4")
    plan = plan_batch(config, 2)
    composed = compose_deepspeed_config(config, {"zero_optimization": {"stage": 2}}, plan, accelerator="cpu")
    model = resolve_model(config, 8000)
    return describe_run(config, plan, model, composed, NUMBERS, notes=["a note"], warnings=["a warning"])


def test_the_description_holds_every_number_of_the_plan(text: str) -> None:
    assert text.split("DeepSpeed gets:")[0].splitlines() == [
        "run small in runs/small",
        "  model       qwen3: 12 layers of 768, 12 heads (4 key-value) of 64, feed-forward 2048, vocabulary 8000 padded to "
        "8000, tied",
        "  parameters  4,000,000 (4.00M): 1.00M in tables, 3.00M in layers",
        "  compute     2.4e+07 FLOPs a token, 4.92e+10 a step, 4.92e+12 in all",
        "  batch       micro 4 × accumulation 2 × ranks 2 = 16 sequences × 128 tokens = 2,048 tokens a step",
        "  length      100 steps × 2,048 tokens = 205k tokens = 0.0512 tokens a parameter",
        "  data        data/zh: 102,400 tokens to train on, read 2 times",
        "  optimizer   muon, learning rate 0.0006, momentum 0.95 (Nesterov), 5 Newton-Schulz steps, betas 0.9 0.95, weight "
        "decay 0.1, gradients clipped at 1",
        "  schedule    wsd, warm-up 2 steps, the last 30 of 100 steps down to 0.02 of the peak",
        "  precision   fp32, ZeRO stage 2",
        "note: a note",
        "warning: a warning",
    ]


def test_the_description_ends_with_the_json_that_deepspeed_gets(text: str) -> None:
    composed = json.loads(text.split("DeepSpeed gets:")[1])
    assert composed["train_batch_size"] == 16
    assert composed["zero_optimization"] == {"stage": 2}


def test_without_a_dataset_there_is_no_line_of_data(load_text: LoadText) -> None:
    config = load_text("optim.gradient_clipping=0", "train.activation_checkpointing=true")
    plan = plan_batch(config, 1)
    facts = run_facts(config, plan, resolve_model(config, 100), {}, RunNumbers(10, 1, 60))
    assert "data" not in facts
    assert facts["optimizer"].endswith("no clipping")
    assert facts["precision"] == "fp32, ZeRO stage 0, activation checkpointing of 12 of 12 layers"


def test_a_blend_shows_what_it_takes_from_each_source(load_text: LoadText) -> None:
    config = load_text("data.train=null", "data.blend=[{data: web}, {data: 维基}]")
    sources = (SourceReading("web", 90_000, 1200, 153_600, 1.7067), SourceReading("维基", 12_400, 400, 51_200, 4.12))
    numbers = RunNumbers(10, 1, 60, 102_400, sources)
    facts = run_facts(config, plan_batch(config, 1), resolve_model(config, 100), {}, numbers)
    assert facts["data"] == "blend of 2 sources, 102,400 tokens to train on"
    assert facts["  web"] == "75 % of the samples: 154k tokens of 90.0k, read 1.71 times"
    assert facts["  维基"] == "25 % of the samples: 51.2k tokens of 12.4k, read 4.12 times"


def test_a_model_in_one_line(load_text: LoadText) -> None:
    config = load_text("model.model_type=gpt2", "model.tie_word_embeddings=false")
    assert describe_model(resolve_model(config, 50_257)) == (
        "gpt2: 12 layers of 768, 12 heads of 64, feed-forward 3072, vocabulary 50257 padded to 50304, untied"
    )


def test_options_in_one_line_and_nothing_where_all_is_usual(load_text: LoadText) -> None:
    def line(*overrides: str) -> str:
        config = load_text(*overrides)
        return describe_options(resolve_model(config, 100), config.train.z_loss_coef)

    assert line() == line("model.model_type=gpt2") == ""
    scaling = ("model.rope_scaling.rope_type=yarn", "model.rope_scaling.factor=4", "model.rope_theta=5e5")
    assert line("model.use_qk_norm=false", "model.embedding_norm=true", "train.z_loss_coef=1e-4", *scaling) == (
        "rope theta 500000; rope scaling yarn × 4; queries and keys not normalised; embedding norm; z-loss 0.0001"
    )
    assert line("model.model_type=gpt2", "model.position_embedding=rope", "model.residual_init=zero") == (
        "rotary positions; projections into the residual stream begin at zero"
    )
    assert line("model.mup_base_width=192") == "muP from width 192 (× 4: matrices' learning rate / 4)"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cosine", "cosine, warm-up 2 steps, then down to 0.02 of the peak at step 100"),
        ("wsd", "wsd, warm-up 2 steps, the last 30 of 100 steps down to 0.02 of the peak"),
        ("constant", "constant, warm-up 2 steps"),
    ],
)
def test_a_schedule_in_one_line(load_text: LoadText, name: str, line: str) -> None:
    config = load_text(f"schedule.name={name}")
    assert describe_schedule(config, plan_batch(config, 1)) == line


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (12_345, "12.3k"),
        (999_600, "1.00M"),
        (124_475_904, "124M"),
        (2.5e9, "2.50B"),
        (3e15, "3000T"),
    ],
)
def test_counts_are_shown_in_three_digits(count: float, shown: str) -> None:
    assert count_text(count) == shown
