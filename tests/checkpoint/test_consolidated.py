"""Weights out of a checkpoint of BF16_Optimizer, which DeepSpeed's own converter refuses."""

from pathlib import Path

import pytest
import torch
from written_checkpoint import write_checkpoint

from zhgpt.checkpoint import consolidated
from zhgpt.errors import BadDataError, MissingInputError


def write_engine(folder: Path, weights: dict[str, torch.Tensor], world_size: int, *, drift: float = 0.0) -> Path:
    """Two parameter groups, each flattened, padded and cut evenly over the ranks, as DeepSpeed 0.19.8 writes them."""
    engine = folder / "engine"
    engine.mkdir()
    names = sorted(weights)
    groups = [names[::2], names[1::2]]
    parts: list[list[torch.Tensor]] = [[] for _ in range(world_size)]
    for group in groups:
        flat = torch.cat([weights[name].flatten() for name in group])
        flat = torch.cat([flat, torch.zeros(-flat.numel() % (2 * world_size))])
        for rank, part in enumerate(flat.chunk(world_size)):
            parts[rank].append(part.clone())
    for rank in range(world_size):
        state = {"optimizer_state_dict": {"single_partition_of_fp32_groups": parts[rank], "clip_grad": 1.0}}
        torch.save(state, engine / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    model = {
        "param_shapes": [{name: weights[name].shape for name in group} for group in groups],
        "module": {name: (tensor + drift).to(torch.bfloat16) for name, tensor in weights.items()},
    }
    torch.save(model, engine / "mp_rank_00_model_states.pt")
    return folder


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (5, 3), "b.weight": (4,), "c.weight": (7, 2), "d.bias": (3,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("world_size", [1, 2, 11])
def test_flat_groups_of_any_number_of_ranks_become_the_parameters(tmp_path: Path, weights, world_size: int) -> None:
    """Eleven: rank 10 sorts before rank 2 by name."""
    found = consolidated._partitioned(write_engine(tmp_path, weights, world_size))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_fp32_weights_that_are_not_those_of_the_bf16_ones_are_refused(tmp_path: Path, weights) -> None:
    write_engine(tmp_path, weights, 2, drift=0.5)
    with pytest.raises(BadDataError, match=r"the fp32 weights of a\.weight are not those of its bf16 weights"):
        consolidated._partitioned(tmp_path)


def test_a_missing_model_file_is_named(tmp_path: Path, weights) -> None:
    write_engine(tmp_path, weights, 2)
    (tmp_path / "engine" / "mp_rank_00_model_states.pt").unlink()
    with pytest.raises(BadDataError, match=r"mp_rank_00_model_states\.pt: missing from the checkpoint"):
        consolidated._partitioned(tmp_path)


def test_a_missing_model_file_of_zero_0_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"mp_rank_00_model_states\.pt: missing from a ZeRO-0 checkpoint"):
        consolidated._unpartitioned(tmp_path)


def test_a_checkpoint_without_the_runs_tokenizer_says_where_it_belongs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoints", 100, others={"train_state.json": b"{}"})
    with pytest.raises(
        MissingInputError, match=f"{tmp_path}/tokenizer: the run's copy of its tokenizer is missing; copy"
    ):
        consolidated.load_consolidated(tmp_path)
