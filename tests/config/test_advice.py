"""Warnings: what a run cannot reach, told before it starts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zhgpt.config.advice import RunNumbers, SourceReading, advice_for
from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.model_shape import resolve_model
from zhgpt.config.schema import RunConfig
from zhgpt.config.sentence import Sentence
from zhgpt.config.zero_rules import Accelerator

LoadText = Callable[..., RunConfig]
Advise = Callable[..., list[Sentence]]
Warn = Callable[..., list[str]]
ZERO1 = {"zero_optimization": {"stage": 1}}


@pytest.fixture
def advise(load_text: LoadText) -> Advise:
    """What is said of a run of 100M parameters on 2.05B tokens (20.5 a parameter), with overrides."""

    def advice(
        *overrides: str,
        parameters: int = 100_000_000,
        embedding: int = 24_000_000,
        train_tokens: int | None = 3_000_000_000,
        ds_json: dict[str, Any] = ZERO1,
        world_size: int = 2,
        accelerator: Accelerator = "cpu",
        sources: tuple[SourceReading, ...] = (),
    ) -> list[Sentence]:
        config = load_text("train.global_batch_size=4000", "train.steps=4000", "optim.learning_rate=6e-4", *overrides)
        plan = plan_batch(config, world_size)
        numbers = RunNumbers(parameters, embedding, 6 * parameters, train_tokens, sources)
        model = resolve_model(config, 32_000)
        return advice_for(config, plan, model, ds_json, numbers, accelerator=accelerator)

    return advice


@pytest.fixture
def warn(advise: Advise) -> Warn:
    """The same in English, as every start prints it."""
    return lambda *overrides, **numbers: [said.en for said in advise(*overrides, **numbers)]


def test_a_sound_run_is_not_warned_of(warn: Warn) -> None:
    assert warn() == []


def test_few_tokens_a_parameter_say_the_ratio_and_what_it_means(warn: Warn) -> None:
    assert warn("train.steps=100") == [
        "the run trains 100M parameters on 51.2M tokens: 0.51 tokens a parameter where about 20 is usual (Hoffmann et al. "
        "2022); so few leave a model far from what its size can learn: expect repetition. About 3,907 steps of "
        "this batch would reach it, or a smaller model."
    ]


def test_a_range_test_is_called_one_and_not_warned_of_what_it_is_for(advise: Advise) -> None:
    short = ("train.steps=100", "optim.learning_rate=1.0", "schedule.warmup_steps=0")
    assert len(advise(*short)) == 3
    assert [said.kind for said in advise(*short, "schedule.name=range_test")] == ["range_test"]


def test_a_middling_ratio_is_called_undertrained(warn: Warn) -> None:
    [warning] = warn("train.steps=2000")
    assert "100M parameters on 1.02B tokens: 10 tokens a parameter" in warning
    assert "the model will be undertrained, and more tokens improve it more than any other setting" in warning


def test_a_ratio_near_20_is_not_warned_of(warn: Warn) -> None:
    assert warn("train.steps=3600") == []


def test_the_steps_it_names_reach_the_ratio(warn: Warn) -> None:
    assert warn("train.steps=3907") == []


def test_many_passes_over_the_data_are_warned_of(warn: Warn) -> None:
    assert warn(train_tokens=100_000_000) == [
        "the run reads the data 20.5 times (2.05B tokens of 100M); beyond about 4 passes repeats teach little and are "
        "learnt by heart (Muennighoff et al. 2023). Add text, or stay near 781 steps."
    ]


def test_more_tokens_than_the_data_has_are_mentioned(warn: Warn) -> None:
    assert warn(train_tokens=1_000_000_000) == [
        "the run wants 2.05B tokens and the data has 1.00B: each is read 2.05 times."
    ]


def test_a_source_of_a_blend_read_too_often_is_named(warn: Warn) -> None:
    web = SourceReading("web", 2_000_000_000, 14_000_000, 1_800_000_000, 0.9)
    books = SourceReading("books", 50_000_000, 1_953_125, 250_000_000, 5.0)
    assert warn(sources=(web, books)) == [
        "the run reads books 5 times (250M tokens of 50.0M); beyond about 4 passes repeats teach little and are learnt by "
        "heart (Muennighoff et al. 2023). Give it less weight, or more text."
    ]


def test_without_a_dataset_nothing_is_said_of_it(warn: Warn) -> None:
    assert warn(train_tokens=None) == []


def test_a_fine_tuning_learning_rate_is_named_as_such(warn: Warn) -> None:
    assert warn("optim.learning_rate=2e-5") == [
        "optim.learning_rate 2e-05 is a fine-tuning value for 100M parameters: pretraining takes about 6.7e-04 (Kaplan et "
        "al. 2020), 1e-04 to 6e-03 at most; the model would hardly learn."
    ]


def test_a_fine_tuning_learning_rate_is_measured_by_gpt3_where_its_table_begins(warn: Warn) -> None:
    warnings = warn("optim.learning_rate=2e-5", parameters=300_000_000)
    assert any(
        "a fine-tuning value for 300M parameters: pretraining takes about 3.3e-04 (GPT-3's table)" in w
        for w in warnings
    )


def test_a_low_learning_rate_is_warned_of(warn: Warn) -> None:
    [warning] = warn("optim.learning_rate=1e-4")
    assert "optim.learning_rate 0.0001 is low for 100M parameters" in warning
    assert "the model would learn slowly" in warning


def test_a_high_learning_rate_is_warned_of(warn: Warn) -> None:
    [warning] = warn("optim.learning_rate=1e-2")
    assert "optim.learning_rate 0.01 is high for 100M parameters" in warning
    assert "the loss may diverge" in warning
    [warning] = warn("optim.learning_rate=1")
    assert "the loss will diverge" in warning


def test_the_rate_that_the_hidden_matrices_get_is_the_one_that_is_judged(warn: Warn) -> None:
    [warning] = warn("optim.name=muon", "optim.muon_learning_rate=1e-6")
    assert "optim.muon_learning_rate 1e-06 is a fine-tuning value for 100M parameters" in warning
    [warning] = warn("optim.name=muon", "optim.muon_learning_rate=6e-4", "optim.learning_rate=2e-5")
    assert "optim.learning_rate 2e-05 is a fine-tuning value for the tables of 100M parameters" in warning
    assert "they would hardly learn" in warning


def test_a_rate_of_the_tables_alone_is_called_low_and_never_high(warn: Warn) -> None:
    assert warn("optim.embedding_learning_rate=0.3") == []
    [warning] = warn("optim.embedding_learning_rate=1e-5")
    assert "optim.embedding_learning_rate 1e-05 is a fine-tuning value for the tables of 100M" in warning
    assert "at least 1e-04" in warning


def test_the_steps_it_names_count_a_ramp(warn: Warn) -> None:
    ramp = "train.batch_ramp=[{global_batch_size: 400, until_step: 1000}]"
    [warning] = warn(ramp, "train.steps=2000")
    assert "About 4,807 steps of this batch" in warning  # 1,000 at a tenth, then 3,807 full ones
    assert warn(ramp, "train.steps=4807") == []
    assert "or stay near 1,681 steps" in warn(ramp, "train.steps=4807", train_tokens=100_000_000)[0]


ALL_OF_THEM: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "few_tokens": (("train.steps=100",), {}),
    "few_tokens of some": (("train.steps=2000",), {}),
    "ends_in_ramp": (("train.batch_ramp=[{global_batch_size: 400, until_step: 5000}]",), {}),
    "many_epochs": ((), {"train_tokens": 100_000_000}),
    "many_epochs of less than a batch": ((), {"train_tokens": 100_000}),
    "many_epochs of a source": ((), {"sources": (SourceReading("books", 50_000_000, 1_953_125, 250_000_000, 5.0),)}),
    "several_epochs": ((), {"train_tokens": 1_000_000_000}),
    "low_rate": (("optim.learning_rate=2e-5",), {}),
    "low_rate at the base width": (("optim.learning_rate=1e-4", "model.mup_base_width=384"), {}),
    "low_rate of tables": (("optim.embedding_learning_rate=1e-5",), {}),
    "high_rate": (("optim.learning_rate=1e-2",), {}),
    "range_test": (("schedule.name=range_test",), {}),
    "no_warmup": (("schedule.warmup_steps=0",), {}),
    "ends_in_warmup": (("schedule.warmup_steps=8000",), {}),
    "warmup_meets_decay": (("schedule.name=wsd", "schedule.warmup_steps=3000", "schedule.decay_fraction=0.5"), {}),
    "no_weight_decay": (("optim.weight_decay=0",), {}),
    "no_clipping": (("optim.gradient_clipping=0",), {}),
    "mostly_vocabulary": ((), {"embedding": 70_000_000}),
    "untrained_positions": (("model.max_position_embeddings=1024",), {}),
    "fp32_on_gpu": ((), {"accelerator": "cuda"}),
    "splits_nothing": ((), {"world_size": 1, "ds_json": {"zero_optimization": {"stage": 3}}}),
    "offloads_little": (
        ("train.precision=bf16",),
        {
            "accelerator": "cuda",
            "ds_json": {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
        },
    ),
}
SETTING = re.compile(r"[a-z_]+\.[a-z_]+|ds_configs/\w+\.json")
NUMBER = re.compile(r"\d[\d,.]*(?:e-\d+)?[MBk]?")


@pytest.mark.parametrize("name", ALL_OF_THEM)
def test_every_warning_says_the_same_in_chinese(advise: Advise, name: str) -> None:
    overrides, numbers = ALL_OF_THEM[name]
    [said] = [said for said in advise(*overrides, **numbers) if said.kind == name.split()[0]]
    assert re.search("[一-鿿]{4}", said.zh)
    assert sorted(SETTING.findall(said.zh)) == sorted(SETTING.findall(said.en))
    unwritten = {"2022", "2023", "2020", "3", "1.0", "0.1"}  # years and usual values may be put otherwise
    assert set(map(_plain, NUMBER.findall(said.zh))) ^ set(map(_plain, NUMBER.findall(said.en))) <= unwritten


def test_every_kind_of_warning_is_in_that_test() -> None:
    sources = "".join(
        (Path("zhgpt/config") / name).read_text(encoding="utf-8") for name in ("advice.py", "rate_advice.py")
    )
    kinds = set(re.findall(r'Sentence\(\s*"(\w+)"', sources)) | {"low_rate", "high_rate", "several_epochs"}
    assert {name.split()[0] for name in ALL_OF_THEM} == kinds


def _plain(number: str) -> str:
    return number.rstrip(".,")


def test_under_mup_the_rate_is_judged_at_the_base_width(warn: Warn) -> None:
    assert len(warn("optim.learning_rate=7e-3")) == 1
    assert warn("optim.learning_rate=7e-3", "model.mup_base_width=96") == []
    [warning] = warn("optim.learning_rate=2e-5", "model.mup_base_width=384")
    assert (
        "a fine-tuning value for 25.0M parameters at the base width 384 (muP): pretraining takes about 8.6e-04"
        in warning
    )


@pytest.mark.parametrize("rate", ["3e-4", "6e-4", "1e-3", "2e-3"])
def test_learning_rates_that_pretrain_pass(warn: Warn, rate: str) -> None:
    assert warn(f"optim.learning_rate={rate}") == []


@pytest.mark.parametrize(
    ("override", "warning"),
    [
        (
            "schedule.warmup_steps=0",
            "schedule.warmup_steps is 0: the first steps take the full learning rate while Adam's averages are empty.",
        ),
        (
            "schedule.warmup_steps=8000",
            "schedule.warmup_steps 8000 is not less than train.steps 4000: the run ends inside its warm-up, at a learning "
            "rate of 0.0003 instead of 0.0006.",
        ),
        (
            "optim.weight_decay=0",
            "optim.weight_decay is 0: 0.1 is usual in pretraining and keeps long runs stable.",
        ),
        (
            "optim.gradient_clipping=0",
            "optim.gradient_clipping is 0: one bad batch can undo the run; 1.0 is usual.",
        ),
        (
            "model.max_position_embeddings=1024",
            "model.max_position_embeddings 1024 exceeds data.sequence_length 128: positions past the latter are never "
            "trained.",
        ),
    ],
)
def test_a_setting_of_another_kind_of_training_is_warned_of(warn: Warn, override: str, warning: str) -> None:
    assert warn(override) == [warning]


def test_a_warmup_that_overlaps_the_decay_is_warned_of(warn: Warn) -> None:
    assert warn("schedule.name=wsd", "schedule.warmup_steps=3000", "schedule.decay_fraction=0.5") == [
        "schedule wsd: warmup_steps 3000 + decay of 2000 steps (decay_fraction 0.5) exceed train.steps 4000: the rate falls "
        "at once where the warm-up ends."
    ]


def test_a_model_that_is_mostly_vocabulary_is_warned_of(warn: Warn) -> None:
    assert warn(embedding=70_000_000) == [
        "70 % of the parameters are the vocabulary's tables (32,000 ids): a smaller vocabulary or a wider model would "
        "spend them better."
    ]


def test_fp32_on_a_gpu_is_warned_of(warn: Warn) -> None:
    assert warn(accelerator="cuda") == [
        "train.precision fp32 on a GPU leaves its bf16 units idle; bf16 is usual in pretraining."
    ]
    assert warn("train.precision=bf16", accelerator="cuda") == []


def test_splitting_over_one_rank_is_warned_of(warn: Warn) -> None:
    assert warn(world_size=1, ds_json={"zero_optimization": {"stage": 3}}) == [
        "ZeRO stage 3 on one rank splits nothing and costs time; ds_configs/zero1.json does the same work."
    ]
    assert warn(world_size=2, ds_json={"zero_optimization": {"stage": 3}}) == []


def test_offloading_little_is_warned_of(warn: Warn) -> None:
    ds_json = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    assert warn("train.precision=bf16", ds_json=ds_json, accelerator="cuda") == [
        "the offloaded optimizer states are 0.6 GiB a rank: where they fit, the same stage without offload saves the way "
        "to the host and back."
    ]
    assert warn(ds_json=ds_json, accelerator="cpu", world_size=1) == []
