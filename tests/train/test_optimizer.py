"""Which parameters are in which group, and what computes an offloaded step."""

import fcntl
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from tiny_mixture import tiny_mixture

from zhgpt.config.schema import ModelSection, OptimSection
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.transformer import CausalLM
from zhgpt.train.engine import set_learning_rate
from zhgpt.train.optimizer import choose_optimizer, cpu_adam_problem, parameter_groups
from zhgpt.train.parameter_roles import group_lines, list_groups

RATE = OptimSection(name="adamw", learning_rate=1e-3)
OFFLOAD = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


def model(model_type: str, **settings: Any) -> CausalLM:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32}
    return CausalLM(
        ModelSection(
            model_type=model_type,
            vocab_size=100,
            hidden_size=16,
            num_hidden_layers=1,
            max_position_embeddings=8,
            **heads,
            **settings,
        ),
        "reference",
    )


def names_of(module: CausalLM, optim: OptimSection) -> dict[str, set[str]]:
    """The names of each group's parameters."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = {
        group["name"]: [names[parameter] for parameter in group["params"]] for group in parameter_groups(module, optim)
    }
    found = [name for members in groups.values() for name in members]
    assert sorted(found) == sorted(names.values()), "every parameter is in exactly one group"
    return {name: set(members) for name, members in groups.items()}


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3"])
def test_matrices_decay_and_vectors_do_not(model_type: str) -> None:
    module = model(model_type)
    decay, no_decay = parameter_groups(module, RATE)
    assert decay["weight_decay"] == 0.1
    assert no_decay["weight_decay"] == 0.0
    assert no_decay["name"] == "vector"
    for name in names_of(module, RATE)["vector"]:
        assert "norm" in name or name.endswith("bias")


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3"])
def test_muon_gets_the_matrices_of_layers_and_adamw_the_rest(model_type: str) -> None:
    groups = names_of(model(model_type, tie_word_embeddings=False), OptimSection(name="muon", learning_rate=1e-3))
    feed_forward = {"up_proj", "down_proj"} | ({"gate_proj"} if model_type != "gpt2" else set())
    projections = {f"self_attn.{letter}_proj" for letter in "qkvo"} | {f"mlp.{name}" for name in feed_forward}
    assert groups["hidden"] == {f"model.layers.0.{name}.weight" for name in projections}
    tables = {"model.embed_tokens.weight", "lm_head.weight"}
    assert groups["embedding+head"] == tables | ({"model.embed_positions.weight"} if model_type == "gpt2" else set())
    assert set(groups) == {"hidden", "embedding+head", "vector"}


@pytest.mark.parametrize("layer", ["dropless", "deepspeed", "reference"])
def test_experts_are_hidden_matrices_and_routers_are_not(layer: str) -> None:
    module = CausalLM(tiny_mixture(layer, n_shared_experts=1, use_residual=layer == "deepspeed"), "sdpa")
    groups = names_of(module, OptimSection(name="muon", learning_rate=1e-3))
    hidden = groups["hidden"] | groups.get("ep_size_1", set())  # DeepSpeed's experts stand in a group of their own
    assert hidden == {name for name, parameter in module.named_parameters() if "_proj" in name and parameter.dim() > 1}
    assert any("experts" in name for name in hidden)
    rest = groups["embedding+router"] - {"model.embed_tokens.weight"}
    assert rest
    assert all(name.endswith((".gate.weight", ".gate.wg.weight", ".coefficient.weight")) for name in rest)


def test_each_group_has_its_own_rate_and_decay() -> None:
    optim = OptimSection(
        learning_rate=1e-3,
        embedding_learning_rate=4e-3,
        head_learning_rate=5e-4,
        vector_learning_rate=2e-3,
        embedding_weight_decay=0.01,
    )
    groups = {group["name"]: group for group in parameter_groups(model("qwen3", tie_word_embeddings=False), optim)}
    found = {name: (round(group["rate_factor"], 6), group["weight_decay"]) for name, group in groups.items()}
    assert found == {
        "hidden": (1.0, 0.1),
        "embedding": (4.0, 0.01),
        "head": (0.5, 0.1),
        "vector": (2.0, 0.0),
    }


def test_the_groups_are_listed_with_what_they_hold() -> None:
    lines = group_lines(
        list_groups(
            parameter_groups(model("qwen3"), OptimSection(name="muon", learning_rate=6e-4, muon_learning_rate=2e-3))
        )
    )
    assert lines == [
        "hidden: Muon, 2,560 values in 7 tensors, learning rate 0.002, weight decay 0.1",
        "embedding: AdamW, 2,048 values in 1 tensor, learning rate 0.0006, weight decay 0.1",
        "vector: AdamW, 64 values in 5 tensors, learning rate 0.0006, weight decay 0",
    ]


def test_under_mup_matrices_of_layers_have_a_group_with_a_lower_rate_and_the_same_decay_a_step() -> None:
    module = model("qwen3")
    groups = {group["name"]: group for group in parameter_groups(module, RATE, width_ratio=4.0)}
    usual, scaled, vectors = "hidden+embedding", "hidden+embedding_by_width", "vector"
    assert set(groups) == {usual, scaled, vectors}
    assert (groups[scaled]["rate_factor"], groups[scaled]["weight_decay"]) == (0.25, 0.4)
    assert groups[scaled]["peak_learning_rate"] == RATE.peak / 4
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert all("_proj" in names[id(parameter)] for parameter in groups[scaled]["params"])
    assert [names[id(parameter)] for parameter in groups[usual]["params"]] == ["model.embed_tokens.weight"]
    assert sum(len(group["params"]) for group in groups.values()) == len(names)


def test_muon_is_scaled_by_the_root_of_the_width() -> None:
    optim = OptimSection(name="muon", learning_rate=1e-3)
    groups = {group["name"]: group for group in parameter_groups(model("qwen3"), optim, width_ratio=4.0)}
    assert (groups["hidden_by_width"]["rate_factor"], groups["hidden_by_width"]["weight_decay"]) == (0.5, 0.2)


def test_the_rate_of_a_group_is_its_share_of_the_schedule() -> None:
    optimizer = torch.optim.AdamW(parameter_groups(model("qwen3"), RATE, width_ratio=4.0))
    set_learning_rate(SimpleNamespace(optimizer=optimizer), 0.01)  # type: ignore[arg-type]
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.0025, 0.01, 0.01]


def ranks(accelerator: Literal["cpu", "cuda"], problems: tuple[str | None, ...] = (None, None)) -> Ranks:
    """Two ranks on two hosts, with what each of them finds."""

    class Found(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return list(problems)

    return Found(0, 0, 2, accelerator, torch.device("cpu"), ("node1", "node2"), "srun", None)


def test_without_offload_torch_adamw_computes_the_step() -> None:
    choice = choose_optimizer(RATE, {"zero_optimization": {"stage": 2}}, ranks("cuda"))
    optimizer = choice.build(model("qwen3"), OptimSection(name="adamw", learning_rate=1e-3, betas=(0.8, 0.9)))
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_offload_says_which_adam_it_takes_and_why() -> None:
    choice = choose_optimizer(RATE, OFFLOAD, ranks("cpu"))
    assert choice.name == "torch.optim.AdamW"
    assert "the optimizer is offloaded and torch.optim.AdamW computes the step" in choice.note


def test_the_cpu_adam_is_taken_only_where_every_host_can_build_it() -> None:
    assert choose_optimizer(RATE, OFFLOAD, ranks("cuda")).name == "DeepSpeedCPUAdam"
    choice = choose_optimizer(RATE, OFFLOAD, ranks("cuda", (None, "ninja not on PATH")))
    assert choice.name == "torch.optim.AdamW"
    assert "DeepSpeedCPUAdam cannot be built here: ninja not on PATH on node2" in choice.note


def test_the_cpu_adam_is_built_in_the_private_folder_under_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepspeed.ops.adam

    class Built(torch.optim.AdamW):
        def __init__(self, groups: list[dict[str, Any]], *, adamw_mode: bool, **settings: Any) -> None:
            super().__init__(groups, **settings)
            folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
            assert adamw_mode
            assert folder.parent == tmp_path / "zhgpt" / "torch_extensions"
            with (folder / "build.lock").open("a") as handle, pytest.raises(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")  # so that it is put back
    monkeypatch.setattr(deepspeed.ops.adam, "DeepSpeedCPUAdam", Built)
    choice = choose_optimizer(RATE, OFFLOAD, ranks("cuda"))
    assert type(choice.build(model("qwen3"), RATE)) is Built


def test_what_is_missing_for_the_cpu_adam_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cpu_adam_problem() == "c++ and ninja not on PATH"
