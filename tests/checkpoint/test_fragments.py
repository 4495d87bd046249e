"""Parameters out of the shards of ranks: slices of flat vectors, experts that are shared out, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from zhgpt.checkpoint.consolidated import read_weights
from zhgpt.checkpoint.fragments import PARAMETER_NAMES, SavedState, read_saved_state
from zhgpt.checkpoint.regroup import load_regrouped, look_up
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, SettingError

MOMENTS = ("exp_avg", "exp_avg_sq")
MIXTURE = ModelSection(
    num_hidden_layers=1, moe=MoeSection(num_experts=4, layer="deepspeed"), vocab_size=64, intermediate_size=8
).model_dump(mode="json")
LOCAL = "model.layers.0.mlp.deepspeed_moe.experts.deepspeed_experts.{}.up_proj.weight"
EXPERT = "model.layers.0.mlp.experts.{}.up_proj.weight"


def train_state(stage: int, world_size: int, ep_size: int = 1) -> dict[str, Any]:
    """What of ``train_state.json`` is read."""
    return {"zero_stage": stage, "world_size": world_size, "ep_size": ep_size, "model": MIXTURE}


def write_shards(engine: Path, groups: list[list[dict[str, Tensor]]], ranks: list[list[int]], prefix: str = "") -> None:
    """Write shards as DeepSpeed 0.19.8 does: each group flattened, padded and cut evenly over the ranks that divide it.

    Args:
        engine: the folder.
        groups: of parameters, each with one dictionary for every set of ranks that holds other values.
        ranks: of each group, the ranks in turn of the sets: ``world_size / sets`` of them divide one.
        prefix: of the files' names.
    """
    world_size = sum(len(of_set) for of_set in ranks[: len(groups[0])])
    shards: list[dict[str, list[Any]]] = [{"weights": [], "states": []} for _ in range(world_size)]
    sets = [(group, held) for group in groups for held in group]
    for (_group, held), of_set in zip(sets, ranks, strict=True):
        flat = torch.cat([tensor.flatten() for tensor in held.values()])
        flat = torch.cat([flat, torch.zeros(-flat.numel() % (2 * len(of_set)))])
        size = flat.numel() // len(of_set)
        for place, rank in enumerate(of_set):
            part = flat[place * size : (place + 1) * size].clone()
            moments = {kind: part * factor for kind, factor in zip(MOMENTS, (10, 100), strict=True)}
            shards[rank]["weights"].append(part)
            shards[rank]["states"].append({"step": torch.tensor(7.0), **moments})
    for rank, shard in enumerate(shards):
        state = {
            "single_partition_of_fp32_groups": shard["weights"],
            "base_optimizer_state": {"state": dict(enumerate(shard["states"]))},
        }
        path = engine / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": state}, path)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (5, 3), "b.weight": (4,), "c.weight": (7, 2), "d.bias": (3,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_dense(folder: Path, weights: dict[str, Tensor], world_size: int, *, drift: float = 0.0) -> Path:
    """Two parameter groups in bf16 on any number of ranks."""
    engine = folder / "engine"
    engine.mkdir()
    names = sorted(weights)
    groups = [{name: weights[name] for name in names[half::2]} for half in (0, 1)]
    write_shards(engine, [[group] for group in groups], [list(range(world_size))] * 2, prefix="bf16_")
    model = {
        "param_shapes": [{name: tensor.shape for name, tensor in group.items()} for group in groups],
        "module": {name: (tensor + drift).to(torch.bfloat16) for name, tensor in weights.items()},
    }
    torch.save(model, engine / "mp_rank_00_model_states.pt")
    return folder


@pytest.mark.parametrize("world_size", [1, 2, 11])
def test_flat_groups_of_any_number_of_ranks_become_the_parameters(tmp_path: Path, weights, world_size: int) -> None:
    """Eleven: rank 10 sorts before rank 2 by name, and a parameter lies on several ranks."""
    folder = write_dense(tmp_path, weights, world_size)
    found = read_weights(folder, train_state(1, world_size))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    saved = read_saved_state(folder, train_state(1, world_size)).parameters
    for name, tensor in weights.items():
        assert torch.equal(saved[name].moments["exp_avg_sq"].read(), tensor * 100)
        assert float(saved[name].step) == 7


def test_experts_that_are_shared_out_are_read_from_every_second_of_four_ranks(tmp_path: Path) -> None:
    """ep_size 2: ranks 0 and 2 divide experts 0 and 1, ranks 1 and 3 experts 2 and 3; all four divide the rest."""
    engine = tmp_path / "engine"
    engine.mkdir()
    rest = {"a.weight": torch.arange(15.0).view(5, 3)}
    experts = [torch.arange(12.0).view(3, 4) + 100 * expert for expert in range(4)]
    local = [{LOCAL.format(number): experts[2 * ep_rank + number] for number in (0, 1)} for ep_rank in (0, 1)]
    write_shards(engine, [[rest], local], [[0, 1, 2, 3], [0, 2], [1, 3]])
    shapes = [{name: tensor.shape for name, tensor in held.items()} for held in (rest, local[0])]
    torch.save({"param_shapes": shapes, "module": rest}, engine / "mp_rank_00_model_states.pt")
    for number, tensor in enumerate(experts):
        torch.save({LOCAL.format(number): tensor}, engine / f"layer_0_expert_{number}_mp_rank_00_model_states.pt")
    found = read_weights(tmp_path, train_state(2, 4, ep_size=2))
    assert found.keys() == {"a.weight", *(EXPERT.format(number) for number in range(4))}
    for number, tensor in enumerate(experts):
        assert torch.equal(found[EXPERT.format(number)], tensor)
    with pytest.raises(BadDataError, match=r"the fp32 weights of .*experts\.1\.up_proj\.weight are not those"):
        read_weights(tmp_path, train_state(2, 4, ep_size=1))


def test_fp32_weights_that_are_not_those_of_the_model_are_refused(tmp_path: Path, weights) -> None:
    write_dense(tmp_path, weights, 2, drift=0.5)
    with pytest.raises(BadDataError, match=r"the fp32 weights of a\.weight are not those that the model ran with"):
        read_weights(tmp_path, train_state(1, 2))


def test_a_missing_file_is_named(tmp_path: Path, weights) -> None:
    write_dense(tmp_path, weights, 2)
    with pytest.raises(
        BadDataError, match=r"bf16_zero_pp_rank_2_mp_rank_00_optim_states\.pt: missing from the checkpoint"
    ):
        read_weights(tmp_path, train_state(1, 3))
    (tmp_path / "engine" / "mp_rank_00_model_states.pt").unlink()
    with pytest.raises(BadDataError, match=r"mp_rank_00_model_states\.pt: missing from the checkpoint"):
        read_weights(tmp_path, train_state(1, 2))


def test_a_parameter_of_which_a_part_is_missing_is_named(tmp_path: Path, weights) -> None:
    write_dense(tmp_path, weights, 2)
    with pytest.raises(
        BadDataError, match=r"ranks 0 hold \d+ values, but c\.weight ends with the 29th; use another step"
    ):
        read_weights(tmp_path, train_state(1, 1))


def write_unpartitioned(folder: Path, *, named: bool) -> None:
    """A ZeRO-0 checkpoint of one parameter and one selection bias."""
    (folder / "engine").mkdir()
    weight = torch.arange(6.0).view(2, 3)
    module = {"a.weight": weight, "model.layers.0.mlp.gate.e_score_correction_bias": torch.ones(4)}
    state = {"step": torch.tensor(7.0), "exp_avg": weight * 10, "exp_avg_sq": weight * 100}
    names = {PARAMETER_NAMES: [("a.weight", (2, 3))]} if named else {}
    path = folder / "engine" / "mp_rank_00_model_states.pt"
    torch.save({"module": module, "optimizer": {"state": {0: state}}, **names}, path)


def test_zero_0_names_its_moments_beside_them(tmp_path: Path) -> None:
    write_unpartitioned(tmp_path, named=True)
    saved = read_saved_state(tmp_path, train_state(0, 1))
    assert torch.equal(saved.parameters["a.weight"].moments["exp_avg"].read(), torch.arange(6.0).view(2, 3) * 10)
    assert list(saved.buffers) == ["model.layers.0.mlp.gate.e_score_correction_bias"]


def test_zero_0_without_names_gives_its_weights_and_goes_on_only_as_it_was_shared_out(tmp_path: Path) -> None:
    """As it was saved before the names were."""
    write_unpartitioned(tmp_path, named=False)
    assert read_weights(tmp_path, train_state(0, 1)).keys() == {
        "a.weight",
        "model.layers.0.mlp.gate.e_score_correction_bias",
    }
    with pytest.raises(SettingError, match=r"which of Adam's moments are whose.*start with train\.ep_size=1"):
        load_regrouped(engine_with(round_robin_gradients=False), tmp_path, train_state(0, 1), 2)


def engine_with(**attributes: Any) -> Any:
    """An engine of which only the optimizer is looked at."""
    return SimpleNamespace(optimizer=SimpleNamespace(**attributes))


def test_another_ep_size_does_not_go_together_with_round_robin_gradients(tmp_path: Path) -> None:
    """DeepSpeed's own mapping from parameters to slices, which the new engine is written by, is wrong there."""
    with pytest.raises(SettingError, match=r"was saved at train\.ep_size 1, and going on at 2 .*round_robin_gradients"):
        load_regrouped(engine_with(round_robin_gradients=True), tmp_path, train_state(2, 2), 2)


def test_a_parameter_that_was_not_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"a\.weight is missing from the checkpoint; use another step"):
        look_up(SavedState({}, {}, {}, {}), "a.weight", tmp_path)
