"""Which parameters decay, and which Adam computes an offloaded step."""

import fcntl
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

from zhgpt.config.schema import ModelSection, OptimSection
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.transformer import CausalLM
from zhgpt.train.engine import set_learning_rate
from zhgpt.train.optimizer import choose_optimizer, cpu_adam_problem, parameter_groups

OFFLOAD = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


def model(model_type: str) -> CausalLM:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 32}
    return CausalLM(
        ModelSection(
            model_type=model_type,
            vocab_size=100,
            hidden_size=16,
            num_hidden_layers=1,
            max_position_embeddings=8,
            **heads,
        ),
        "reference",
    )


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3"])
def test_matrices_decay_and_vectors_do_not(model_type: str) -> None:
    module = model(model_type)
    groups = {group["name"]: group for group in parameter_groups(module, 0.1)}
    assert groups["decay"]["weight_decay"] == 0.1
    assert groups["no_decay"]["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter in groups["no_decay"]["params"]:
        assert "norm" in names[id(parameter)] or names[id(parameter)].endswith("bias")
    in_groups = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(in_groups) == sorted(names), "every parameter is in exactly one group"


def test_under_mup_matrices_of_layers_have_a_group_with_a_lower_rate_and_the_same_decay_a_step() -> None:
    module = model("qwen3")
    groups = {group["name"]: group for group in parameter_groups(module, 0.1, width_ratio=4.0)}
    assert set(groups) == {"decay", "decay_by_width", "no_decay"}
    scaled = groups["decay_by_width"]
    assert (scaled["rate_factor"], scaled["weight_decay"]) == (0.25, 0.4)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert all("_proj" in names[id(parameter)] for parameter in scaled["params"])
    assert [names[id(parameter)] for parameter in groups["decay"]["params"]] == ["model.embed_tokens.weight"]
    assert sum(len(group["params"]) for group in groups.values()) == len(names)


def test_the_rate_of_a_group_is_its_share_of_the_schedule() -> None:
    optimizer = torch.optim.AdamW(parameter_groups(model("qwen3"), 0.1, width_ratio=4.0))
    set_learning_rate(SimpleNamespace(optimizer=optimizer), 0.01)  # type: ignore[arg-type]
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"decay": 0.01, "decay_by_width": 0.0025, "no_decay": 0.01}


def test_a_model_without_vectors_has_one_group() -> None:
    assert [group["name"] for group in parameter_groups(torch.nn.Linear(2, 2, bias=False), 0.1)] == ["decay"]


def ranks(accelerator: Literal["cpu", "cuda"], problems: tuple[str | None, ...] = (None, None)) -> Ranks:
    """Two ranks on two hosts, with what each of them finds."""

    class Found(Ranks):
        def gather(self, value: Any) -> list[Any]:
            return list(problems)

    return Found(0, 0, 2, accelerator, torch.device("cpu"), ("node1", "node2"), "srun", None)


def test_without_offload_torch_adamw_computes_the_step() -> None:
    choice = choose_optimizer({"zero_optimization": {"stage": 2}}, ranks("cuda"))
    optimizer = choice.build(model("qwen3"), OptimSection(learning_rate=1e-3, betas=(0.8, 0.9)))
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_offload_says_which_adam_it_takes_and_why() -> None:
    choice = choose_optimizer(OFFLOAD, ranks("cpu"))
    assert choice.name == "torch.optim.AdamW"
    assert "the optimizer is offloaded and torch.optim.AdamW computes the step" in choice.note


def test_the_cpu_adam_is_taken_only_where_every_host_can_build_it() -> None:
    assert choose_optimizer(OFFLOAD, ranks("cuda")).name == "DeepSpeedCPUAdam"
    choice = choose_optimizer(OFFLOAD, ranks("cuda", (None, "ninja not on PATH")))
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
    choice = choose_optimizer(OFFLOAD, ranks("cuda"))
    assert type(choice.build(model("qwen3"), OptimSection())) is Built


def test_what_is_missing_for_the_cpu_adam_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cpu_adam_problem() == "c++ and ninja not on PATH"
