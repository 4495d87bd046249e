"""Reduced and clipped gradients of a mixture on two real ranks against a plain loop, for each option, stage and layout."""

from typing import Any

import numpy as np
import pytest
from mixture_engines import Case, step_of_the_reference
from ranks import Ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

NO_DROPPING = {"drop_tokens": False, "use_rts": False, "top2_2nd_expert_sampling": False, "router_aux_loss_coef": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "top-1 of 32": {"moe": {"num_experts": 32, "num_experts_per_tok": 1, "norm_topk_prob": False}},
    "top-2": {"moe": {}},
    "sigmoid, groups, shared": {
        "moe": {
            "num_experts": 8,
            "scoring_func": "sigmoid",
            "n_group": 4,
            "topk_group": 2,
            "n_shared_experts": 1,
            "router_z_loss_coef": 0.01,
        }
    },
    "sequence balance": {"moe": {"router_aux_loss_scope": "sequence"}},
    "global balance": {"moe": {"router_aux_loss_scope": "global"}},
    "gelu, every other layer": {"moe": {"decoder_sparse_step": 2}, "model_type": "gpt2"},
    "recomputed": {"moe": {}, "activation_checkpointing": True},
}


def case(
    option: str, *, layer: str = "dropless", stage: int, ep_size: int, micro_steps: int = 1, clipping: float = 0.5
) -> Case:
    settings = {**OPTIONS[option], "layer": layer, "stage": stage, "ep_size": ep_size}
    return {**settings, "micro_steps": micro_steps, "clipping": clipping}


CASES: list[Case] = [
    *(case(option, stage=1, ep_size=2) for option in OPTIONS),
    *(case(option, stage=2, ep_size=1) for option in OPTIONS),
    *(
        case("top-2", stage=stage, ep_size=ep_size, micro_steps=micro_steps)
        for stage in (0, 1, 2)
        for ep_size in (1, 2)
        for micro_steps in (1, 4)
    ),
    *(case("top-1 of 32", stage=stage, ep_size=2, micro_steps=4) for stage in (0, 1, 2)),
    *(case("top-2", stage=3, ep_size=1, micro_steps=micro_steps) for micro_steps in (1, 4)),
    case("top-2", stage=2, ep_size=2, clipping=0.0),
    *(
        {**case(option, stage=stage, ep_size=ep_size), "grouped": True}  # as on a GPU
        for option, stage, ep_size in (("top-2", 3, 1), ("top-1 of 32", 2, 2), ("gelu, every other layer", 1, 2))
    ),
    *(
        {
            **case(option, layer="deepspeed", stage=stage, ep_size=ep_size),
            "moe": {**OPTIONS[option]["moe"], **NO_DROPPING},
        }
        for option in ("top-1 of 32", "top-2")
        for stage in (0, 1, 2)
        for ep_size in (1, 2)
    ),
]


def name_of(settings: Case) -> str:
    moe = ",".join(f"{key}={value}" for key, value in settings["moe"].items() if key not in NO_DROPPING)
    again = "-recomputed" if settings.get("activation_checkpointing") else ""
    again += "-grouped" if settings.get("grouped") else ""
    layout = f"zero{settings['stage']}-ep{settings['ep_size']}-x{settings['micro_steps']}-clip{settings['clipping']}"
    return f"{settings['layer']}-{layout}{again}-{settings.get('model_type', 'qwen3')}-{moe}"


@pytest.fixture(scope="module")
def outcomes(ranks: Ranks) -> list[list[dict[str, Any]]]:
    """Of every rank, for every case: all in one launch."""
    return ranks.results("mixture_engines:steps_under_deepspeed", CASES, world_size=2, timeout=240)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[name_of(settings) for settings in CASES])
def test_a_step_under_deepspeed_is_that_of_the_plain_loop(outcomes: list[list[dict[str, Any]]], index: int) -> None:
    expected = step_of_the_reference(CASES[index], 2)
    found: dict[str, np.ndarray] = {}
    for rank in (0, 1):
        for name, change in outcomes[rank][index]["change"].items():
            assert name not in found or np.array_equal(found[name], change), f"{name} differs between ranks"
            found[name] = change
        assert outcomes[rank][index]["norm"] == pytest.approx(expected["norm"], rel=1e-5)
    assert found.keys() == expected["change"].keys()
    for name, change in expected["change"].items():
        np.testing.assert_allclose(found[name], change, atol=1e-5, rtol=0, err_msg=name)
    if CASES[index]["clipping"]:
        assert expected["norm"] > CASES[index]["clipping"], "nothing was clipped"


def test_loads_differ_an_expert_is_empty_and_every_assignment_is_counted(outcomes: list[list[dict[str, Any]]]) -> None:
    loads = [load for rank in (0, 1) for outcome in outcomes[rank] for load in outcome["loads"]]
    assert any(min(load) == 0 for load in loads)
    assert all(max(load) > 1.5 * min(load) for load in loads)
    for rank in (0, 1):
        for settings, outcome in zip(CASES, outcomes[rank], strict=True):
            top_k = settings["moe"].get("num_experts_per_tok", 2)
            if settings["layer"] == "dropless":
                assert [sum(load) for load in outcome["loads"]] == [128 * top_k] * len(outcome["loads"])
