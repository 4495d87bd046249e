"""Batch ramps, short rows, warm-up in tokens and branches: arithmetic, and a sentence for what cannot be."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhgpt.config.advice import RunNumbers, advice_for
from zhgpt.config.batch_plan import BatchPlan, plan_batch
from zhgpt.config.derived import derivation_notes, resolve_schedule
from zhgpt.config.description import describe_stages
from zhgpt.config.model_shape import resolve_model
from zhgpt.config.schema import DataSection, RunConfig, ScheduleSection, TrainSection
from zhgpt.errors import SettingError

LoadText = Callable[..., RunConfig]
Refusal = Callable[..., str]

RAMP = "train.batch_ramp=[{global_batch_size: 4, until_tokens: 5000}, {global_batch_tokens: 1024, until_step: 14}]"
ROWS = "data.sequence_length_warmup=[{sequence_length: 16, until_step: 3}, {sequence_length: 64, until_tokens: 10000}]"


def stages(plan: BatchPlan) -> list[tuple[int, int, int, int, int]]:
    return [
        (s.first_step, s.first_sample, s.global_batch_size, s.gradient_accumulation_steps, s.sequence_length)
        for s in plan.stages
    ]


def test_a_ramp_ends_each_stage_with_the_step_that_reaches_its_tokens(load_text: LoadText) -> None:
    plan = plan_batch(load_text(RAMP), 1)
    assert stages(plan) == [(0, 0, 4, 1, 128), (10, 40, 8, 2, 128), (14, 72, 16, 4, 128)]
    assert plan.tokens_before(9) < 5000 <= plan.tokens_before(10)
    assert plan.total_tokens == (72 + 86 * 16) * 128
    assert plan.tokens_per_step == 2048, "of the full batch"


def test_short_rows_change_neither_samples_nor_tokens_of_a_step(load_text: LoadText) -> None:
    whole, cut = plan_batch(load_text(RAMP), 1), plan_batch(load_text(RAMP, ROWS), 1)
    assert [whole.samples_before(step) for step in range(100)] == [cut.samples_before(step) for step in range(100)]
    assert whole.total_tokens == cut.total_tokens
    lengths = [cut.stage_at(step).sequence_length for step in range(100)]
    assert lengths == [16] * 3 + [64] * (cut.steps_reaching(10_000) - 3) + [128] * (100 - cut.steps_reaching(10_000))


def test_the_stages_are_shown_with_steps_samples_and_tokens(load_text: LoadText) -> None:
    assert describe_stages(plan_batch(load_text(RAMP, ROWS, "train.steps=20"), 1)) == {
        "  steps 0 to 2": "micro 4 × accumulation 1 × ranks 1 = 4 sequences, each cut into 8 rows of 16: samples 0 to 11, 1.54k "
        "tokens",
        "  steps 3 to 9": "micro 4 × accumulation 1 × ranks 1 = 4 sequences, each cut into 2 rows of 64: samples 12 to 39, 3.58k "
        "tokens",
        "  steps 10 to 13": "micro 4 × accumulation 2 × ranks 1 = 8 sequences, each cut into 2 rows of 64: samples 40 to 71, "
        "4.10k tokens",
        "  steps 14 to 14": "micro 4 × accumulation 4 × ranks 1 = 16 sequences, each cut into 2 rows of 64: samples 72 to 87, "
        "2.05k tokens",
        "  steps 15 to 19": "micro 4 × accumulation 4 × ranks 1 = 16 sequences: samples 88 to 167, 10.2k tokens",
    }
    assert describe_stages(plan_batch(load_text(), 1)) == {}


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True).map(sorted),
    lengths=st.lists(st.integers(1, 30), min_size=4, max_size=4),
    steps=st.integers(1, 150),
    ranks=st.sampled_from([1, 2, 4]),
)
def test_every_sample_belongs_to_exactly_one_step_whatever_the_world_size(
    sizes: list[int], lengths: list[int], steps: int, ranks: int
) -> None:
    ends = [sum(lengths[: number + 1]) for number in range(len(sizes) - 1)]
    ramp = [{"global_batch_size": 8 * s, "until_step": e} for s, e in zip(sizes, ends, strict=False)]
    config = RunConfig(
        data=DataSection(train="x", sequence_length=4),
        schedule=ScheduleSection(warmup_steps=0),
        train=TrainSection.model_validate(
            {"steps": steps, "global_batch_size": 8 * sizes[-1], "micro_batch_size": 2, "batch_ramp": ramp}
        ),
    )
    plan = plan_batch(config, ranks)
    consumed = 0
    for step in range(steps):
        stage = plan.stage_at(step)
        assert plan.samples_before(step) == consumed
        assert stage.gradient_accumulation_steps * 2 * ranks == stage.global_batch_size
        consumed += stage.global_batch_size
        assert plan.steps_reaching(consumed * 4) == step + 1
        assert plan.steps_reaching(consumed * 4 - 1) == step + 1
        assert plan.steps_within(consumed * 4) == step + 1
        assert plan.steps_within(consumed * 4 - 1) == step
    assert plan.total_tokens == consumed * 4


def test_a_warm_up_in_tokens_is_a_number_of_steps_of_the_ramp(load_text: LoadText) -> None:
    config = load_text(RAMP, "schedule.warmup_tokens=6000", "optim.learning_rate=1e-3")
    plan = plan_batch(config, 2 // 2)
    resolved = resolve_schedule(config, plan, 10**6)
    assert (resolved.schedule.warmup_steps, resolved.schedule.warmup_tokens) == (11, None)
    assert derivation_notes(config, plan, 10**6) == ["warm-up of 6,000 tokens: 11 steps"]


def test_a_branch_decays_from_its_first_step_on(load_text: LoadText) -> None:
    words = ("schedule.name=wsd", "train.branch_from=runs/x/checkpoints/step-00000070", "optim.learning_rate=1e-3")
    config = load_text(*words)
    plan = plan_batch(config, 1)
    resolved = resolve_schedule(config, plan, 10**6)
    assert resolved.schedule.stable_steps(100) == 70
    assert derivation_notes(config, plan, 10**6) == [
        "branch of runs/x/checkpoints/step-00000070: 30 steps of decay, from step 70 and 143k tokens on"
    ]
    late = load_text(*words, "schedule.warmup_steps=71")
    with pytest.raises(SettingError, match="begins after 70 steps, inside the warm-up of 71"):
        resolve_schedule(late, plan, 10**6)


BRANCH = ["schedule.name=wsd", "train.branch_from=runs/x/checkpoints/step-00000070"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["schedule.warmup_steps=5", "schedule.warmup_tokens=100"],
            "schedule.warmup_steps 5 and schedule.warmup_tokens 100 are both given: keep one",
        ),
        (
            ["schedule.name=range_test", "schedule.minimum_ratio=0"],
            "schedule.minimum_ratio 0: a range test rises exponentially from above 0; set 1e-5 or so",
        ),
        (
            ["train.batch_ramp=[{global_batch_size: 4}]"],
            "train.batch_ramp[0]: give one of until_step and until_tokens, the end of this stage",
        ),
        (
            ["train.batch_ramp=[{until_step: 4}]"],
            "train.batch_ramp[0]: give one of global_batch_tokens and global_batch_size",
        ),
        (
            ["data.sequence_length_warmup=[{sequence_length: 48, until_step: 4}]"],
            "data.sequence_length_warmup[0].sequence_length 48 is no smaller divisor of data.sequence_length 128, so samples "
            "cannot be cut into rows of it; there are 2, 4, 8, 16, 32, 64",
        ),
        (
            [
                "data.sequence_length_warmup=[{sequence_length: 32, until_step: 4}, {sequence_length: 16, until_step: 8}]"
            ],
            "data.sequence_length_warmup[1].sequence_length 16 is not above the 32 before it: rows only grow",
        ),
        (
            ["data.sequence_length_warmup=[{sequence_length: 64}]"],
            "data.sequence_length_warmup[0]: give one of until_step and until_tokens, the end of this stage",
        ),
        (
            ["data.packing=best_fit", "data.sequence_length_warmup=[{sequence_length: 64, until_step: 4}]"],
            "data.sequence_length_warmup cuts samples into rows, and data.packing best_fit is there to keep documents whole: "
            "leave one of them out",
        ),
        (
            ["train.branch_from=runs/x", "schedule.name=wsd"],
            "train.branch_from runs/x: expected one checkpoint, as in runs/x/checkpoints/step-00004000 (its name says where "
            "the decay begins)",
        ),
        (
            ["train.branch_from=runs/x/checkpoints/step-00000070", "schedule.name=cosine"],
            "train.branch_from: a branch is the decay of schedule wsd, and schedule.name is cosine; set it to wsd",
        ),
        (
            [*BRANCH, "train.steps=70"],
            "train.steps 70 is where the branch ends, counted from step 0 of the run it continues, and it begins after 70 steps "
            "(train.branch_from); set train.steps to 70 + the steps it shall decay",
        ),
        (
            [*BRANCH, "train.initial_weights=runs/y"],
            "train.branch_from and train.initial_weights both say where the weights come from: keep one",
        ),
    ],
)
def test_what_cannot_go_together_is_said(refusal: Refusal, overrides: list[str], sentence: str) -> None:
    assert sentence in refusal(*overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["train.batch_ramp=[{global_batch_size: 6, until_step: 4}]"],
            "train.batch_ramp[0].global_batch_size 6 is not a multiple of micro_batch_size 4 × world size 1 = 4; nearest: 4, 8",
        ),
        (
            ["train.batch_ramp=[{global_batch_tokens: 1000, until_step: 4}]"],
            "train.batch_ramp[0].global_batch_tokens 1000 is not a multiple of data.sequence_length 128; nearest: 896, 1024",
        ),
        (
            ["train.batch_ramp=[{global_batch_size: 8, until_step: 4}, {global_batch_size: 4, until_step: 8}]"],
            "train.batch_ramp[1]: a ramp grows, and 4 sequences are not between the 8 of the stage before and the 16 of the "
            "full batch; put the stages in order, or leave this one out",
        ),
        (
            ["train.batch_ramp=[{global_batch_size: 4, until_step: 4}, {global_batch_size: 8, until_tokens: 2048}]"],
            "train.batch_ramp[1] would end with step 4, but it begins only with step 4, where the stage before it ends; raise "
            "its until_step or until_tokens (both count from step 0)",
        ),
        (
            ["data.sequence_length_warmup=[{sequence_length: 8, until_step: 4}, {sequence_length: 16, until_step: 3}]"],
            "data.sequence_length_warmup[1] would end with step 3, but it begins only with step 4",
        ),
    ],
)
def test_stages_that_do_not_follow_each_other_are_refused(
    load_text: LoadText, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(SettingError) as caught:
        plan_batch(load_text(*overrides), 1)
    assert sentence in str(caught.value)


def test_a_run_that_ends_inside_its_ramp_is_warned_of(load_text: LoadText) -> None:
    config = load_text(RAMP, ROWS, "train.steps=12", "optim.learning_rate=1e-3")
    numbers = RunNumbers(1000, 100, 6000)
    advice = advice_for(config, plan_batch(config, 1), resolve_model(config, 100), {}, numbers, accelerator="cpu")
    assert (
        "the run ends after step 12, before its ramp does: at 8 of 16 sequences a step and rows of 64 of 128 tokens."
    ) in [said.en for said in advice]
