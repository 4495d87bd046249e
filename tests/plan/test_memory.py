"""Planned memory against real DeepSpeed ranks, against 64 simulated ones, and against the model on the meta device."""

import pytest
import torch
from ranks import Ranks

from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config, resolve_model
from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import count_parameters
from zhgpt.model.transformer import CausalLM
from zhgpt.plan.layout import Layout, layout_of
from zhgpt.plan.memory import MUON_BATCH_VALUES, muon_batch_bytes, plan_memory
from zhgpt.plan.states import split_parameters
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


def test_muons_step_takes_the_largest_batch_of_equal_matrices() -> None:
    """12 layers of 768: of 48 squares (query, key, value, output) 28 go at a time, 12 where four ranks share them."""
    model = resolve_model(load_run_config("configs/gpt2_124m.yaml"), 32_000)
    square = 768 * 768
    assert muon_batch_bytes(model, Layout(1, "bf16", 1)) == 0
    assert muon_batch_bytes(model, Layout(1, "bf16", 1, optimizer="muon")) == 5 * 2 * 28 * square
    assert muon_batch_bytes(model, Layout(1, "fp32", 1, optimizer="muon")) == 5 * 4 * 28 * square
    assert muon_batch_bytes(model, Layout(1, "bf16", 4, optimizer="muon")) == 5 * 2 * 12 * square
    # Without ZeRO a feed-forward matrix alone: itself, its quotient in fp32, and that rounded; on a CPU first as fp32.
    assert muon_batch_bytes(model, Layout(0, "bf16", 4, optimizer="muon")) == 8 * 4 * square
    assert muon_batch_bytes(model, Layout(0, "bf16", 4, optimizer="muon", kernels="cpu")) == 10 * 4 * square


def test_a_layers_experts_are_one_parameter_without_zero() -> None:
    model = resolve_model(load_run_config("configs/moe_64x300m.yaml", ["train.ep_size=8"]), 32_000)
    assert model.moe is not None
    expert = model.hidden_size * (model.moe.moe_intermediate_size or 0)
    found = muon_batch_bytes(model, Layout(0, "bf16", 8, ep_size=8, optimizer="muon"))
    assert found == 8 * 8 * expert


def test_zero_2_has_its_gradients_while_most_activations_are_there() -> None:
    small, large = ({"reduce_bucket_size": size, "overlap_comm": False} for size in (10**6, 10**9))
    model = resolve_model(load_run_config("configs/qwen3_300m.yaml"), 32_000)
    total, layers = count_parameters(model).total, count_parameters(model).non_embedding
    early = plan_memory(model, Layout(2, "bf16", 2, zero=small), 8, 2048, reserve=False)
    late = plan_memory(model, Layout(2, "bf16", 2, zero=large), 8, 2048, reserve=False)
    kept = plan_memory(model, Layout(1, "bf16", 2, zero=small), 8, 2048, reserve=False).parts["activations"]
    assert early.moment == "backward"
    assert early.parts["activations"] == pytest.approx(kept * (1 - 10**6 / layers))
    assert early.parts["gradients"] == pytest.approx(4 * total / 2)
    assert early.total > late.total


def test_an_offloaded_optimizers_gradients_are_summed_on_the_device_in_half_precision() -> None:
    model = resolve_model(load_run_config("configs/qwen3_1b3.yaml"), 32_000)
    for precision, held in (("bf16", 4 * count_parameters(model).total), ("fp32", 0)):
        layout = Layout(2, precision, 1, optimizer_offloaded=True, zero={"reduce_bucket_size": 10**6})
        parts = plan_memory(model, layout, 1, 256).parts
        assert parts.get("gradients", 0) == pytest.approx(held)
