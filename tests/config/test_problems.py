"""Each problem of a RunConfig file is one sentence: place, key, what was found, what was expected."""

from collections.abc import Callable

import pytest

from zhgpt.config.moe_section import MoeSection
from zhgpt.config.ownership import FAMILIAR_NAMES
from zhgpt.config.problems import dotted_keys
from zhgpt.config.rope_section import RopeScalingSection

Refusal = Callable[..., str]

UNKNOWN = [
    (
        "optim.learning_rat",
        "unknown key optim.learning_rat; did you mean optim.learning_rate, optim.muon_learning_rate?",
    ),
    ("optim.lr", "unknown key optim.lr; did you mean optim.learning_rate?"),
    ("lr", "unknown key lr; did you mean optim.learning_rate?"),
    ("learning_rate", "unknown key learning_rate; did you mean optim.learning_rate?"),
    ("train.learning_rate", "unknown key train.learning_rate; did you mean optim.learning_rate?"),
    ("model.n_embd", "unknown key model.n_embd; did you mean model.hidden_size?"),
    ("train.seq_length", "unknown key train.seq_length; did you mean data.sequence_length?"),
    ("train.max_steps", "unknown key train.max_steps; did you mean train.steps?"),
    ("modle.hidden_size", "unknown section modle; did you mean model?"),
    ("model_type", "unknown key model_type; did you mean model.model_type?"),
    ("logging", "unknown section logging; did you mean log?"),
    ("seed", "unknown key seed; did you mean run.seed?"),
    (
        "train.gradient_accumulation_steps",
        "unknown key train.gradient_accumulation_steps; did you mean train.global_batch_size and "
        "train.micro_batch_size; accumulation follows from them?",
    ),
    ("checkpoint.xyz", "unknown key checkpoint.xyz; section checkpoint has every_steps, keep_last"),
    (
        "xyz",
        "unknown key xyz; sections are run, data, model, optim, schedule, train, evaluate, checkpoint, log, "
        "health, launch",
    ),
]


@pytest.mark.parametrize(("key", "sentence"), UNKNOWN)
def test_an_unknown_key_says_what_was_probably_meant(refusal: Refusal, key: str, sentence: str) -> None:
    assert refusal(f"{key}=1") == f"override {key}=1: {sentence}"


def test_an_unknown_key_in_a_file_names_its_line(refusal: Refusal) -> None:
    text = "data: {train: x}\ntrain:\n  steps: 3\n  global_batch_size: 8\n  precison: fp32\n"
    assert refusal(text=text) == "run.yaml line 5: unknown key train.precison; did you mean train.precision?"


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("zero_optimization", "zero_optimization"),
        ("wall_clock_breakdown", "wall_clock_breakdown"),
        ("train.communication_data_type", "communication_data_type"),
        ("train.offload_optimizer", "zero_optimization.offload_optimizer"),
        ("overlap_comm", "zero_optimization.overlap_comm"),
        ("train.stage", "zero_optimization.stage"),
    ],
)
def test_a_key_of_the_deepspeed_json_is_sent_there(refusal: Refusal, key: str, where: str) -> None:
    assert refusal(f"{key}=1") == (
        f"override {key}=1: {key} belongs to the DeepSpeed JSON, not to the run's YAML: put {where} into the file "
        "given with --deepspeed_config"
    )


VALUES = [
    ("train.steps='5'", "expected a whole number, found '5'; take the quotation marks away"),
    ("train.steps=many", "expected a whole number, found 'many'"),
    ("train.steps=1.5", "expected a whole number, found 1.5"),
    ("train.steps=true", "expected a whole number, found true"),
    ("train.steps=null", "expected a whole number, found null"),
    ("train.steps=[1]", "expected a whole number, found a list of 1"),
    ("train.steps={a: 1}", "expected a whole number, found a mapping"),
    ("train.steps=0", "must be greater than 0, found 0"),
    ("train.steps=.inf", "expected a whole number, found inf"),
    ("data.sequence_length=1", "must be at least 2, found 1"),
    ("run.seed=-1", "must be at least 0, found -1"),
    ("run.seed=4294967296", "must be less than 4294967296, found 4294967296"),
    ("schedule.minimum_ratio=1.5", "must be at most 1, found 1.5"),
    ("optim.learning_rate=-1", "must be greater than 0, found -1"),
    ("optim.learning_rate='6e-4'", "expected a number, found '6e-4'; take the quotation marks away"),
    ("optim.learning_rate=fast", "expected a number, found 'fast'"),
    ("optim.learning_rate=false", "expected a number, found false"),
    ("optim.learning_rate=.nan", "must be a finite number, found nan"),
    ("optim.betas=[0.9, 1.0]", "both values must be at least 0 and less than 1, found [0.9, 1.0]"),
    ("train.precision=bf61", "expected fp32, bf16 or fp16, found 'bf61'; did you mean bf16?"),
    ("train.precision=16", "expected fp32, bf16 or fp16, found 16; did you mean fp16?"),
    ("schedule.name=linear", "expected cosine, wsd, constant or range_test, found 'linear'"),
    ("optim.name=moun", "expected adamw or muon, found 'moun'; did you mean muon?"),
    ("log.tensorboard=1", "expected true or false, found 1"),
    ("log.tensorboard=yes", "expected true or false, found 'yes'"),
    ("run.name=5", "expected text, found 5; write '\"5\"' to mean text"),
    ("data.train=5", "expected text, found 5; write '\"5\"' to mean text"),
    ("data.train=''", "must not be empty, found ''"),
    ("run.name=a/b", "a folder's name cannot hold '/'; use run.dir for a path"),
    ("run.name='a\\b'", "a folder's name cannot hold '\\\\'; use run.dir for a path"),
    (
        "run.name=.hidden",
        "expected a folder's name (not empty, no leading dot or blank, <= 200 bytes), found '.hidden'",
    ),
    ("run.name=''", "expected a folder's name (not empty, no leading dot or blank, <= 200 bytes), found ''"),
    ("run.dir=5", "expected a path, found 5"),
    ("evaluate.prompts=春天", "expected a list, found '春天'"),
]


@pytest.mark.parametrize(("override", "sentence"), VALUES)
def test_a_value_of_the_wrong_kind_or_range_is_one_sentence(refusal: Refusal, override: str, sentence: str) -> None:
    assert refusal(override) == f"override {override}: {override.split('=')[0]}: {sentence}"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("'2'", "train.recomputed_layers: expected a whole number, found '2'; take the quotation marks away"),
        ("[0, two]", "train.recomputed_layers.1: expected a whole number, found 'two'"),
    ],
)
def test_a_value_that_is_none_of_several_types_is_one_sentence(refusal: Refusal, value: str, sentence: str) -> None:
    override = f"train.recomputed_layers={value}"
    assert refusal("train.activation_checkpointing=true", override) == f"override {override}: {sentence}"


def test_a_section_of_the_deepspeed_json_is_sent_there_whole(refusal: Refusal) -> None:
    assert refusal("zero_optimization.stage=1", "zero_optimization.overlap_comm=true") == (
        "override zero_optimization.stage=1: zero_optimization belongs to the DeepSpeed JSON, not to the run's YAML: put "
        "zero_optimization into the file given with --deepspeed_config"
    )


def test_an_item_of_a_list_is_named_by_its_place(refusal: Refusal) -> None:
    assert refusal("evaluate.prompts=[春天, 3]") == (
        "override evaluate.prompts=[春天, 3]: evaluate.prompts.1: expected text, found 3; write '\"3\"' to mean text"
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.batch_ramp=[{global_batch_size: 2}]", "train.batch_ramp[0]: give one of until_step and until_tokens"),
        (
            "data.sequence_length_warmup=[{sequence_length: 100, until_step: 4}]",
            "data.sequence_length_warmup[0].sequence_length 100 is no smaller divisor",
        ),
        ("train.recomputed_layers=[99]", "train.recomputed_layers: there is no layer 99"),
    ],
)
def test_what_settings_together_refuse_names_the_override_that_it_came_from(
    refusal: Refusal, override: str, sentence: str
) -> None:
    found = refusal("train.activation_checkpointing=true", override)
    assert found.startswith(f"override {override}: {sentence}")


def test_what_settings_together_refuse_names_the_line_of_an_item(refusal: Refusal) -> None:
    stages = "  batch_ramp:\n    - {global_batch_size: 4, until_step: 2}\n    - global_batch_size: 8\n"
    text = f"data: {{train: x}}\ntrain:\n  steps: 3\n  global_batch_size: 16\n{stages}"
    assert refusal(text=text).startswith("run.yaml line 5: train.batch_ramp[1]: give one of until_step")


def test_a_list_of_the_wrong_length_is_refused(refusal: Refusal) -> None:
    assert "optim.betas: expected one more item, found" in refusal("optim.betas=[0.9]")
    assert "optim.betas: expected 2 items, found a list of 3" in refusal("optim.betas=[0.9, 0.8, 0.7]")


def test_a_missing_key_says_what_it_is_for(refusal: Refusal) -> None:
    assert refusal(text="data: {train: x}\ntrain: {global_batch_size: 8}") == (
        "run.yaml: train.steps is missing: optimizer steps of the run"
    )


def test_a_missing_section_says_which_keys_it_needs(refusal: Refusal) -> None:
    assert refusal(text="run: {name: x}").splitlines() == [
        "run.yaml: section data is missing; it needs data.train or data.blend",
        "run.yaml: section train is missing; it needs train.steps",
    ]


def test_a_key_that_is_no_word_is_refused(refusal: Refusal) -> None:
    assert refusal(text="data: {train: x, 7: 8}\ntrain: {steps: 3, global_batch_size: 8}") == (
        "run.yaml line 1: unknown key data.7; section data has train, blend, temperature, phases, sequence_length, "
        "sequence_length_warmup, packing, order, prefetch, tokenizer, attend_across_documents"
    )


@pytest.mark.parametrize("name", FAMILIAR_NAMES)
def test_names_used_elsewhere_lead_to_settings_that_exist(name: str) -> None:
    assert set(FAMILIAR_NAMES[name].split(" or ")) <= set(dotted_keys())


def test_all_problems_are_told_at_once(refusal: Refusal) -> None:
    message = refusal("train.steps=-1", "optim.lr=1", text="data: {trian: x}\ntrain: {precision: fp8}\n")
    assert len(message.splitlines()) == 4


def test_dotted_keys_lists_every_setting_once() -> None:
    keys = dotted_keys()
    assert "optim.learning_rate" in keys
    assert len(keys) == len(set(keys))
    inner = {f"model.moe.{name}" for name in MoeSection.model_fields}
    inner |= {f"model.rope_scaling.{name}" for name in RopeScalingSection.model_fields}
    assert {key for key in keys if key.count(".") == 2} == inner
