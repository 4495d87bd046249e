"""Planned memory against real DeepSpeed ranks, against 64 simulated ones, and against the model on the meta device."""

import pytest
import torch
from ranks import Ranks

from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config, resolve_model
from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import count_parameters
from zhgpt.model.transformer import CausalLM
from zhgpt.plan.memory import MUON_BATCH_VALUES, Layout, layout_of, plan_memory, split_parameters
from zhgpt.train.matrix_exchange import LARGEST_BATCH


@pytest.mark.distributed
@pytest.mark.slow
def test_the_plan_is_within_ten_percent_of_what_two_real_ranks_take(ranks: Ranks) -> None:
    cells = [*(("bf16", stage, 1, 1, False) for stage in (0, 1, 2, 3)), ("bf16", 2, 1, 1, False, "muon")]
    for found in ranks.results("measured_memory:compare", cells, world_size=2, timeout=400):
        ratios = [cell["predicted"] / cell["measured"] for cell in found]
        assert ratios == pytest.approx([1.0] * 5, abs=0.10)


@pytest.mark.distributed
@pytest.mark.slow
def test_what_stays_on_one_of_64_ranks_is_what_deepspeed_keeps_there(ranks: Ranks) -> None:
    (found,) = ranks.results("measured_memory:state_bytes_at_64_ranks", [1, 2, 3], world_size=1, timeout=400)
    assert [state["planned"] / state["kept"] for state in found] == pytest.approx([1.0] * 3, abs=0.03)


@pytest.mark.parametrize(
    ("name", "ep_size"), [("qwen3_1b3", 1), ("gpt2_124m", 1), ("moe_64x300m", 8), ("moe_8x124m", 4)]
)
def test_the_parameters_of_a_rank_are_those_of_its_model_on_the_meta_device(name: str, ep_size: int) -> None:
    config = load_run_config(f"configs/{name}.yaml", [f"train.ep_size={ep_size}"])
    model = resolve_model(config, 32_000)
    with torch.device("meta"):
        module = CausalLM(model, "sdpa")
    total = sum(parameter.numel() for parameter in module.parameters())
    experts = sum(p.numel() for n, p in module.named_parameters() if ".experts." in n)
    assert split_parameters(model, ep_size) == (total - experts, experts // ep_size)


def plan_of(stage: int, **changes: object) -> float:
    model = resolve_model(load_run_config("configs/qwen3_300m.yaml"), 32_000)
    settings: dict[str, object] = {"stage": stage, "precision": "bf16", "world_size": 64} | changes
    return plan_memory(model, Layout(**settings), 4, 2048).total  # type: ignore[arg-type]


def test_more_sharding_takes_less() -> None:
    sizes = [
        plan_of(stage, world_size=64, zero={"stage3_max_live_parameters": 10**7, "reduce_bucket_size": 10**7})
        for stage in (1, 2, 3)
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_activation_checkpointing_and_offload_take_less() -> None:
    assert plan_of(1, recomputed_layers=range(24)) < plan_of(1)
    assert plan_of(2, optimizer_offloaded=True) < plan_of(2)


def test_what_is_offloaded_is_counted_for_the_host() -> None:
    model: ModelSection = resolve_model(load_run_config("configs/qwen3_300m.yaml"), 32_000)
    ds_json = load_deepspeed_json("ds_configs/zero2_offload.json")
    memory = plan_memory(model, layout_of(ds_json, precision="bf16", world_size=1), 4, 2048)
    assert "optimizer" not in memory.parts
    assert memory.host_bytes == pytest.approx(16 * split_parameters(model, 1)[0])


def test_muon_keeps_one_moment_and_takes_more_in_its_step() -> None:
    model: ModelSection = resolve_model(load_run_config("configs/qwen3_300m.yaml"), 32_000)

    def parts(optimizer: str) -> dict[str, float]:
        return plan_memory(model, Layout(1, "bf16", 8, optimizer=optimizer), 4, 2048).parts

    saved = parts("adamw")["optimizer"] - parts("muon")["optimizer"]
    assert saved == pytest.approx(4 * count_parameters(model).non_embedding / 8)
    assert MUON_BATCH_VALUES == LARGEST_BATCH
