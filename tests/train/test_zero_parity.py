"""The same losses whatever the ZeRO stage, the number of ranks and the accumulation; real DeepSpeed over gloo."""

import signal
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from tiny import ROOT, Tiny, losses, metrics

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

STEPS = "train.steps=20"
WIDE = ("model.hidden_size=192", "model.intermediate_size=8192", "optim.learning_rate=1e-3")
"""1.6M elements in one tensor: as many as the demo's vocabulary table, enough for an fp32 sum of squares to go wrong."""
QUIET = ("optim.learning_rate=1e-2", "evaluate.every_steps=100", "checkpoint.every_steps=100", "evaluate.prompts=[]")


@pytest.fixture(scope="module")
def run(ranks: Ranks, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory):
    """Trains 20 steps and gives the folder; runs with the same settings are made once."""
    known: dict[tuple[object, ...], Path] = {}

    def train(stage: int, world_size: int, *overrides: str) -> Path:
        key = (stage, world_size, *overrides)
        if key not in known:
            folder = tmp_path_factory.mktemp("run")
            argv = tiny.argv(folder, STEPS, *QUIET, *overrides, stage=stage)
            ranks.results("faults:train", argv, world_size=world_size)
            known[key] = folder
        return known[key]

    return train


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_and_world_size_gives_the_losses_of_one_process_without_zero(
    run, stage: int, world_size: int
) -> None:
    reference, other = losses(run(0, 1)), losses(run(stage, world_size))
    assert len(reference) == len(other) == 20
    assert other == pytest.approx(reference, abs=1e-5)
    assert reference[0] - reference[-1] > 0.3, "twenty steps must learn something, or equal losses prove nothing"


def test_options_of_model_and_loss_give_the_same_losses_whatever_the_stage_and_world_size(run) -> None:
    options = ("model.embedding_norm=true", "model.mup_base_width=16", "train.z_loss_coef=0.01")
    reference, other = run(0, 1, *options), run(3, 2, *options)
    assert losses(other) == pytest.approx(losses(reference), abs=1e-5)
    z_losses = [[line["z_loss"] for line in metrics(folder)] for folder in (reference, other)]
    assert z_losses[0] == pytest.approx(z_losses[1], rel=1e-5)
    # At first all logits are near 0 and logsumexp near ln of the vocabulary, as the loss is.
    assert z_losses[0][0] == pytest.approx(0.01 * losses(reference)[0] ** 2, rel=0.05)
    assert losses(reference)[0] - losses(reference)[-1] > 0.3


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_accumulation_steps_equal_one_of_double_size(run, stage: int) -> None:
    once = losses(run(stage, 2))
    twice = losses(run(stage, 2, "train.micro_batch_size=2"))
    assert twice == pytest.approx(once, abs=1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_agrees_between_stages(run, stage: int) -> None:
    reference, other = losses(run(1, 2, "train.precision=bf16")), losses(run(stage, 2, "train.precision=bf16"))
    assert other == pytest.approx(reference, abs=5e-3)


def test_bf16_without_zero_follows_fp32_under_autocast(run) -> None:
    assert losses(run(0, 2, "train.precision=bf16")) == pytest.approx(losses(run(0, 2)), abs=2e-2)


def test_the_gradient_norm_is_reported_at_every_stage_and_agrees(run) -> None:
    norms = {stage: [line["gradient_norm"] for line in metrics(run(stage, 2))] for stage in range(4)}
    for stage in (1, 2, 3):
        assert norms[stage] == pytest.approx(norms[0], rel=1e-4)


def test_update_ratios_are_the_same_at_every_stage_and_number_of_ranks(run) -> None:
    reference = metrics(run(0, 1))
    for name in ("update_norm", "update_ratio_min", "update_ratio", "update_ratio_max"):
        values = [line[name] for line in reference]
        assert min(values) > 0
        for stage, world_size in [(0, 2), (1, 2), (2, 2), (3, 2), (3, 1)]:
            assert [line[name] for line in metrics(run(stage, world_size))] == pytest.approx(values, rel=1e-3), (
                stage,
                name,
            )


def test_update_ratios_are_of_the_fp32_weights_in_bf16_too(run) -> None:
    # bf16 weights move by 2**-8 of themselves or not at all: 4e-3 where an update is 1e-3
    exact = [line["update_ratio"] for line in metrics(run(1, 2))]
    for stage in (1, 2, 3):
        found = [line["update_ratio"] for line in metrics(run(stage, 2, "train.precision=bf16"))]
        assert found == pytest.approx(exact, rel=0.05)


def test_every_stage_agrees_where_tensors_are_large_and_gradients_are_clipped(run) -> None:
    runs = [metrics(run(stage, 2, *WIDE, "train.steps=6")) for stage in range(4)]
    for lines in runs[1:]:
        assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in runs[0]], abs=1e-5)
        assert lines[0]["gradient_norm"] == pytest.approx(runs[0][0]["gradient_norm"], rel=2e-6)
    assert max(line["gradient_norm"] for line in runs[0]) > 1.0, "nothing was clipped"


def test_activation_checkpointing_changes_nothing(run) -> None:
    assert losses(run(1, 2, "train.activation_checkpointing=true")) == pytest.approx(losses(run(1, 2)), abs=1e-5)


def test_clipping_is_the_same_at_every_stage(run) -> None:
    clipped = [losses(run(stage, 2, "optim.gradient_clipping=0.1")) for stage in range(4)]
    for stage in (1, 2, 3):
        assert clipped[stage] == pytest.approx(clipped[0], abs=1e-5)
    assert clipped[0] != pytest.approx(losses(run(0, 2)), abs=1e-4)


def test_every_stage_gives_the_losses_of_the_demo_at_its_own_size(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    """configs/demo.yaml as it is, with the vocabulary table of 8192 rows, stopped after ten steps of its schedule."""
    here = (f"data.train={tiny.prefix}", "model.pad_vocab_size_multiple=8192", "launch.accelerator=cpu")
    quiet = ("log.every_steps=1", "log.tensorboard=false", "evaluate.prompts=[]")
    found = []
    for stage in range(4):
        files = [
            "--config",
            ROOT / "configs" / "demo.yaml",
            "--deepspeed_config",
            ROOT / f"ds_configs/zero{stage}.json",
        ]
        argv = [*map(str, files), f"run.dir={tmp_path / str(stage)}", *here, *quiet]
        stop = (Moment("zhgpt.train.loader:Loader.take", 10, 0), int(signal.SIGUSR1))
        outcomes = ranks.run("faults:train_and_signal", argv, *stop)
        assert [outcome.code for outcome in outcomes] == [75, 75], outcomes[0].output[-2000:]
        found.append(losses(tmp_path / str(stage)))
    assert len(found[0]) == 10
    assert found[0][0] - found[0][-1] > 0.3, "ten steps must learn something, or equal losses prove nothing"
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-5)
