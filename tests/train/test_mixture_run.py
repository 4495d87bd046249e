"""Runs of a mixture of experts as a user starts them, on two ranks."""

import json
from pathlib import Path

import pytest
from ranks import Ranks
from tiny import Tiny, losses, metrics

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

MIXTURE = ("model.moe.num_experts=4", "model.moe.moe_intermediate_size=24", "optim.learning_rate=1e-2")
BIASED = ("model.moe.scoring_func=sigmoid", "model.moe.bias_update_rate=0.01", "model.moe.router_aux_loss_coef=0")
QUIET = ("train.steps=12", "evaluate.every_steps=6", "checkpoint.every_steps=100")


@pytest.fixture(scope="module")
def run(ranks: Ranks, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory):
    """Trains 12 steps on two ranks and gives the folder; runs with the same settings are made once."""
    known: dict[tuple[object, ...], Path] = {}

    def train(stage: int, *overrides: str) -> Path:
        key = (stage, *overrides)
        if key not in known:
            folder = tmp_path_factory.mktemp("run")
            argv = tiny.argv(folder, *QUIET, *MIXTURE, *overrides, stage=stage)
            ranks.results("faults:train", argv, world_size=2)
            known[key] = folder
        return known[key]

    return train


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_sharing_the_experts_out_changes_no_loss(run, stage: int) -> None:
    whole = losses(run(1))
    assert losses(run(stage, "train.ep_size=2")) == pytest.approx(whole, abs=1e-5)
    assert whole[0] - whole[-1] > 0.3, "twelve steps must learn something, or equal losses prove nothing"


def test_update_ratios_are_the_same_however_the_experts_are_shared_out(run) -> None:
    whole = [line["update_ratio"] for line in metrics(run(1))]
    for stage in (0, 1):
        shared = [line["update_ratio"] for line in metrics(run(stage, "train.ep_size=2"))]
        assert shared == pytest.approx(whole, rel=1e-3)


def test_zero3_with_whole_experts_gives_the_same_losses(run) -> None:
    assert losses(run(3)) == pytest.approx(losses(run(1)), abs=1e-5)


def test_bf16_follows_fp32_with_and_without_shared_out_experts(run) -> None:
    for overrides in ((), ("train.ep_size=2",)):
        assert losses(run(1, "train.precision=bf16", *overrides)) == pytest.approx(losses(run(1)), abs=3e-2)


def test_the_selection_bias_is_the_same_however_experts_are_laid_out(run) -> None:
    lines = [
        [json.loads(line) for line in (run(1, *BIASED, *layout) / "routing.jsonl").read_text().splitlines()]
        for layout in ((), ("train.ep_size=2",))
    ]
    assert lines[0] == lines[1]
    last = lines[0][-1]["layers"]
    assert all(any(layer["bias"]) for layer in last)
    assert all(abs(value) <= 12 * 0.01 + 1e-6 for layer in last for value in layer["bias"])


def test_metrics_say_what_the_routers_did(run) -> None:
    line = metrics(run(1, "train.ep_size=2"))[-1]
    assert 0 < line["router_loss"] < 0.1
    assert 0 <= line["expert_load_min"] < 1 < line["expert_load_max"] <= 2
    assert 0 < line["router_entropy"] <= 1.3863  # ln 4
    assert (line["dropped_share"], line["dead_experts"]) == (0.0, 0)
    assert 0 < line["all_to_all_share"] < 1
    routing = [json.loads(text) for text in (run(1, "train.ep_size=2") / "routing.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in routing] == list(range(1, 13))
    assert all(sum(layer["load"]) == pytest.approx(1.0, abs=1e-5) for layer in routing[-1]["layers"])


def test_deepspeeds_gate_drops_tokens_and_says_how_many(run) -> None:
    settings = ("model.moe.layer=deepspeed", "model.moe.capacity_factor=0.5")
    folder = run(2, *settings, "train.ep_size=2")
    assert 0 < metrics(folder)[-1]["dropped_share"] < 0.6
    again = run(2, *settings, "train.ep_size=2", "log.tensorboard=false")
    assert losses(again) == losses(folder), "what the gate draws is a function of the step"


@pytest.mark.parametrize(
    ("stage", "overrides", "sentence"),
    [
        (3, ("train.ep_size=2",), "ZeRO stage 3 cannot hold experts that are shared out over ranks; take ZeRO stage 2"),
        (3, ("model.moe.layer=deepspeed",), "ZeRO stage 3 cannot hold DeepSpeed's own mixture"),
        (1, ("train.ep_size=4",), "train.ep_size 4 does not divide world size 2; these do: 1, 2"),
        (1, ("train.ep_size=3",), "train.ep_size 3 does not divide the 4 experts of a layer"),
        (2, ("model.moe.layer=reference",), "model.moe.layer reference is for comparing"),
    ],
)
def test_what_cannot_run_is_refused_before_a_model_is_built(
    ranks: Ranks, tiny: Tiny, tmp_path: Path, stage: int, overrides: tuple[str, ...], sentence: str
) -> None:
    argv = tiny.argv(tmp_path / "run", *MIXTURE, *overrides, stage=stage)
    outcomes = ranks.run("faults:train", argv, world_size=2)
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert sentence in outcomes[0].output
    assert not (tmp_path / "run" / "checkpoints").exists()
