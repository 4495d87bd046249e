"""Batch arithmetic: whole numbers only, and the nearest batches that fit when one does not."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhgpt.config.batch_plan import BatchPlan, plan_batch
from zhgpt.config.schema import DataSection, RunConfig, ScheduleSection, TrainSection
from zhgpt.errors import SettingError

LoadText = Callable[..., RunConfig]


def test_a_global_batch_in_sequences_is_cut_into_micro_batches(load_text: LoadText) -> None:
    assert plan_batch(load_text(), 2) == BatchPlan(
        global_batch_size=16,
        micro_batch_size=4,
        gradient_accumulation_steps=2,
        data_parallel_size=2,
        sequence_length=128,
        tokens_per_step=2048,
        steps=100,
        total_tokens=204_800,
    )


def test_a_global_batch_in_tokens_gives_the_same_plan_as_in_sequences(load_text: LoadText) -> None:
    in_tokens = load_text("train.global_batch_size=null", "train.global_batch_tokens=2048")
    assert plan_batch(in_tokens, 2) == plan_batch(load_text(), 2)


@pytest.mark.parametrize(
    ("overrides", "world_size", "sentence"),
    [
        (
            ["train.global_batch_size=500", "train.micro_batch_size=8"],
            16,
            "global_batch_size 500 is not a multiple of micro_batch_size 8 × world size 16 = 128; nearest: 384, 512",
        ),
        (
            ["train.global_batch_size=5"],
            2,
            "global_batch_size 5 is not a multiple of micro_batch_size 4 × world size 2 = 8; nearest: 8",
        ),
        (
            ["train.global_batch_size=null", "train.global_batch_tokens=1000"],
            1,
            "train.global_batch_tokens 1000 is not a multiple of data.sequence_length 128; nearest: 896, 1024",
        ),
        (
            ["train.global_batch_size=null", "train.global_batch_tokens=100"],
            1,
            "train.global_batch_tokens 100 is not a multiple of data.sequence_length 128; nearest: 128",
        ),
        (
            ["train.global_batch_size=null", "train.global_batch_tokens=1280"],
            2,
            "global_batch_tokens 1280 = 10 sequences of 128 is not a multiple of micro_batch_size 4 × world size 2 = 8 "
            "sequences; nearest: 1024, 2048",
        ),
    ],
)
def test_a_batch_that_does_not_divide_names_the_nearest(
    load_text: LoadText, overrides: list[str], world_size: int, sentence: str
) -> None:
    with pytest.raises(SettingError) as caught:
        plan_batch(load_text(*overrides), world_size)
    assert str(caught.value) == sentence


def _config(size: int, micro: int, sequence_length: int, steps: int = 3) -> RunConfig:
    return RunConfig(
        data=DataSection(train="x", sequence_length=sequence_length),
        train=TrainSection(steps=steps, global_batch_size=size, micro_batch_size=micro),
        schedule=ScheduleSection(warmup_steps=0),
    )


SIZES = st.integers(1, 4096)


@given(size=SIZES, micro=st.integers(1, 64), world_size=st.integers(1, 64), length=st.integers(2, 4096))
def test_micro_times_accumulation_times_ranks_is_always_the_global_batch(
    size: int, micro: int, world_size: int, length: int
) -> None:
    try:
        plan = plan_batch(_config(size, micro, length), world_size)
    except SettingError as error:
        nearest = [int(text) for text in str(error).rsplit("nearest: ", 1)[1].split(", ")]
        for fitting in nearest:
            assert plan_batch(_config(fitting, micro, length), world_size).global_batch_size == fitting
        assert nearest[-1] - size < micro * world_size
    else:
        assert plan.micro_batch_size * plan.gradient_accumulation_steps * plan.data_parallel_size == size
        assert plan.tokens_per_step == size * length
        assert plan.total_tokens == 3 * plan.tokens_per_step


@given(accumulation=st.integers(1, 16), ranks=st.sampled_from([1, 2, 4, 8]), micro=st.integers(1, 8))
def test_the_tokens_of_a_step_do_not_depend_on_the_world_size(accumulation: int, ranks: int, micro: int) -> None:
    config = _config(accumulation * 8 * micro, micro, 16)
    assert plan_batch(config, ranks).tokens_per_step == plan_batch(config, 1).tokens_per_step
