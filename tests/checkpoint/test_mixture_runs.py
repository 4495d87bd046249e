"""Runs with experts: interrupted they go on as if nothing had happened, at another ep_size with the same losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Moment
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, losses, same_numbers

from zhgpt.checkpoint.consolidated import load_consolidated
from zhgpt.checkpoint.layout import list_complete

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

EXPERTS = ("model.moe.num_experts=4", "model.moe.moe_intermediate_size=24")
SIGMOID = (
    *("model.moe.scoring_func=sigmoid", "model.moe.n_shared_experts=1", "model.moe.bias_update_rate=0.01"),
    "model.moe.router_aux_loss_coef=0",
)
DEEPSPEED = ("model.moe.layer=deepspeed",)

# Layer settings, ZeRO stage, precision, ep_size.
KILLED: dict[str, tuple[tuple[str, ...], int, str, int]] = {
    "dropless ep 1 ZeRO-1 fp32": (SIGMOID, 1, "fp32", 1),
    "dropless ep 2 ZeRO-1 fp32": ((), 1, "fp32", 2),
    "dropless ep 2 ZeRO-2 fp32": (SIGMOID, 2, "fp32", 2),
    "dropless ep 2 ZeRO-1 bf16": (SIGMOID, 1, "bf16", 2),
    "dropless ep 2 ZeRO-2 bf16": ((), 2, "bf16", 2),
    "dropless ep 1 ZeRO-3 fp32": (SIGMOID, 3, "fp32", 1),
    "dropless ep 2 ZeRO-0 fp32": (SIGMOID, 0, "fp32", 2),
    "deepspeed ep 1 ZeRO-2 fp32": (DEEPSPEED, 2, "fp32", 1),
    "deepspeed ep 2 ZeRO-1 bf16": (DEEPSPEED, 1, "bf16", 2),
}


def argv(
    tiny: Tiny, run_dir: Path, settings: tuple[str, ...], stage: int | str, precision: str, ep_size: int
) -> list[str]:
    words = (*EXPERTS, *settings, f"train.precision={precision}", f"train.ep_size={ep_size}")
    return tiny.argv(run_dir, *words, "optim.learning_rate=1e-2", stage=stage)


@pytest.mark.parametrize("case", KILLED)
def test_a_killed_run_goes_on_bit_for_bit(ranks: Ranks, tiny: Tiny, tmp_path: Path, case: str) -> None:
    """Killed in step 5, after the save of step 3; the selection bias and the gate's draws are those of the whole run."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    ranks.results("faults:train", argv(tiny, whole, *KILLED[case]))
    moment = Moment("zhgpt.train.training:forward", 6, 1)
    outcomes = ranks.run("faults:train_and_die", argv(tiny, broken, *KILLED[case]), moment)
    assert outcomes[1].code == -9
    assert [folder.step for folder in list_complete(broken / "checkpoints")] == [3]
    ranks.results("faults:train", argv(tiny, broken, *KILLED[case]))
    assert same_numbers(broken) == same_numbers(whole)
    for step in (6, 8):
        name = f"checkpoints/step-{step:08d}"
        assert_same_checkpoint(whole / name, broken / name)


# Settings, ZeRO stage (or which of its JSONs), precision, allowed difference of the losses.
REGROUPED: dict[str, tuple[tuple[str, ...], int | str, str, float]] = {
    "dropless ZeRO-0 fp32": (SIGMOID, 0, "fp32", 1e-5),
    "dropless ZeRO-1 fp32": (SIGMOID, 1, "fp32", 1e-5),
    "dropless ZeRO-2 fp32": ((), 2, "fp32", 1e-5),
    "dropless ZeRO-2 offloaded fp32": (SIGMOID, "2_offload", "fp32", 1e-5),
    "dropless ZeRO-1 bf16": (SIGMOID, 1, "bf16", 5e-3),
    "dropless ZeRO-2 bf16": ((), 2, "bf16", 5e-3),
    "deepspeed ZeRO-2 fp32": ((*DEEPSPEED, "model.moe.drop_tokens=false"), 2, "fp32", 1e-5),
}


@pytest.mark.parametrize("case", REGROUPED)
@pytest.mark.parametrize("saved", [1, 2])
def test_a_run_goes_on_at_another_ep_size_with_the_same_losses(
    ranks: Ranks, tiny: Tiny, tmp_path: Path, case: str, saved: int
) -> None:
    settings, stage, precision, allowed = REGROUPED[case]
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    ranks.results("faults:train", argv(tiny, whole, settings, stage, precision, saved))
    again = argv(tiny, moved, settings, stage, precision, 3 - saved)
    again[again.index("--resume") + 1] = str(whole / "checkpoints" / "step-00000006")
    output = ranks.run("faults:train", again)
    assert [outcome.code for outcome in output] == [0, 0], output[0].output[-3000:]
    assert f"train.ep_size is {3 - saved} but was {saved}: experts and their optimizer state move" in output[0].output
    expected, found = losses(whole)[6:], losses(moved)
    assert len(found) == 2
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=allowed, rtol=0)


@pytest.mark.parametrize("stage", [1, 2])
def test_four_ranks_share_experts_out_anew(ranks: Ranks, tiny: Tiny, tmp_path: Path, stage: int) -> None:
    """Saved at ep_size 2, where two ranks divide each expert's state; gone on with at 4, where one has it, and at 1."""
    whole = tmp_path / "whole"
    words = (*SIGMOID, "train.micro_batch_size=2")
    ranks.results("faults:train", argv(tiny, whole, words, stage, "fp32", 2), world_size=4)
    for ep_size in (1, 4):
        moved = tmp_path / f"ep{ep_size}"
        again = argv(tiny, moved, words, stage, "fp32", ep_size)
        again[again.index("--resume") + 1] = str(whole / "checkpoints" / "step-00000006")
        ranks.results("faults:train", again, world_size=4)
        difference = torch.tensor(losses(moved)) - torch.tensor(losses(whole)[6:])
        assert difference.abs().max() < 1e-5


def assert_same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=1e-5, msg=name)


def test_weights_come_out_alike_of_every_stage_and_ep_size(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    """Three steps of the same run, held in six ways."""
    found = {}
    for stage, ep_size in ((0, 1), (0, 2), (1, 2), (2, 1), (2, 2), (3, 1)):
        run = tmp_path / f"z{stage}ep{ep_size}"
        words = (*SIGMOID, "train.steps=3", "schedule.name=constant")
        ranks.results("faults:train", argv(tiny, run, words, stage, "fp32", ep_size))
        found[stage, ep_size] = load_consolidated(run).state_dict
    first = found.pop((0, 1))
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in first
    assert first["model.layers.1.mlp.gate.e_score_correction_bias"].abs().sum() > 0
    for weights in found.values():
        assert_same_weights(first, weights)
