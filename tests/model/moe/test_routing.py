"""The router's choices, its bias and losses, and what activation checkpointing must not change."""

import pytest
import torch
from tiny_mixture import batch, build, gradients, tiny_mixture
from torch import Tensor

from zhgpt.model.moe.dispatch import combine, rounded_up, sort_by_expert, spread
from zhgpt.model.moe.routing import Router, Routes, RoutingCounts, RoutingTape, router_loss, within_best_groups

BALANCED_BY_BIAS = {"scoring_func": "sigmoid", "bias_update_rate": 0.001}


def router(**settings: object) -> Router:
    moe = tiny_mixture("dropless", **settings).moe
    assert moe is not None
    made = Router(moe, moe.num_experts, 32)
    torch.nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(0))
    return made


def tokens(count: int = 64) -> Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(2))


def test_scores_are_fp32_under_bf16_and_the_bias_keeps_its_precision() -> None:
    made = router(**BALANCED_BY_BIAS).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        routes = Routes(*made(tokens().bfloat16()))
    assert made.weight.dtype == torch.bfloat16
    assert {routes.weights_TR.dtype, routes.logits_TE.dtype, routes.probabilities_TE.dtype} == {torch.float32}
    made.move_bias(torch.tensor([10, 2, 2, 2]))
    assert made.e_score_correction_bias is not None
    torch.testing.assert_close(made.e_score_correction_bias, torch.tensor([-0.001, 0.001, 0.001, 0.001]))


def test_the_bias_changes_the_choice_and_never_the_weights() -> None:
    made = router(num_experts_per_tok=1, norm_topk_prob=False, **BALANCED_BY_BIAS)
    before = Routes(*made(tokens()))
    made.e_score_correction_bias = torch.tensor([10.0, 0.0, 0.0, 0.0])
    after = Routes(*made(tokens()))
    assert (after.chosen_TR == 0).all()
    assert not (before.chosen_TR == 0).all()
    torch.testing.assert_close(after.weights_TR[:, 0], after.logits_TE.sigmoid()[:, 0])


def test_the_bias_evens_out_the_loads_of_a_skewed_router() -> None:
    made = router(num_experts_per_tok=1, scoring_func="sigmoid", bias_update_rate=0.02)
    with torch.no_grad():
        made.weight[0] += tokens().mean(dim=0) * 20
    skewed = torch.bincount(made(tokens())[0].flatten(), minlength=4)
    for _ in range(200):
        made.move_bias(torch.bincount(made(tokens())[0].flatten(), minlength=4))
    evened = torch.bincount(made(tokens())[0].flatten(), minlength=4)
    assert evened.max() - evened.min() < (skewed.max() - skewed.min()) / 2


def test_the_bias_is_saved_and_loaded_and_missed_where_it_is_not_there() -> None:
    made, other = router(**BALANCED_BY_BIAS), router(**BALANCED_BY_BIAS)
    made.e_score_correction_bias = torch.tensor([0.1, 0.2, 0.3, 0.4])
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.e_score_correction_bias, made.e_score_correction_bias)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="e_score_correction_bias"):
        other.load_state_dict({"weight": made.weight.detach()})


def test_tokens_stay_within_their_best_groups() -> None:
    scores = torch.rand(50, 8, generator=torch.Generator().manual_seed(4))
    allowed = within_best_groups(scores, n_group=4, topk_group=2).isfinite()
    for row, open_to in zip(scores.tolist(), allowed.tolist(), strict=True):
        strength = {group: sum(row[2 * group : 2 * group + 2]) for group in range(4)}
        best = sorted(strength, key=lambda group: -strength[group])[:2]
        assert open_to == [expert // 2 in best for expert in range(8)]


@pytest.mark.parametrize("scope", ["micro_batch", "sequence", "global"])
def test_the_balance_loss_is_one_when_even_and_the_number_of_experts_when_one_has_all(scope: str) -> None:
    moe = tiny_mixture("dropless", router_aux_loss_coef=1.0, num_experts_per_tok=1, router_aux_loss_scope=scope).moe
    assert moe is not None
    chosen = torch.arange(32)[:, None] % 4
    even = Routes(chosen, torch.ones(32, 1), torch.full((32, 4), 0.25), torch.zeros(32, 4))
    assert float(router_loss(even, torch.full((4,), 8), moe, 16)) == pytest.approx(1.0)
    probabilities = torch.tensor([1.0, 0, 0, 0]).expand(32, 4)
    one = Routes(torch.zeros_like(chosen), torch.ones(32, 1), probabilities, torch.zeros(32, 4))
    assert float(router_loss(one, torch.tensor([32, 0, 0, 0]), moe, 16)) == pytest.approx(4.0)


def test_the_z_loss_is_the_mean_square_of_the_log_sum() -> None:
    moe = tiny_mixture("dropless", router_aux_loss_coef=0.0, router_z_loss_coef=0.5).moe
    assert moe is not None
    routes = Routes(torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, 2), torch.full((3, 4), 0.25), torch.zeros(3, 4))
    expected = 0.5 * torch.log(torch.tensor(4.0)) ** 2
    torch.testing.assert_close(router_loss(routes, torch.ones(4, dtype=torch.int64), moe, 3), expected)


@pytest.mark.parametrize("layer", ["dropless", "deepspeed"])
def test_activation_checkpointing_counts_loads_and_losses_once(layer: str) -> None:
    settings = {"drop_tokens": False, "top2_2nd_expert_sampling": False} if layer == "deepspeed" else {}
    results, grads, loads = [], [], []
    for again in (False, True):
        module = build(layer, activation_checkpointing=again, **settings)
        result = module(batch()[0], labels=batch()[1])
        (result[0] / 32 + result[1]).backward()
        results.append(result.detach())
        grads.append(gradients(module))
        loads.append([block.mlp.counts.load_E.tolist() for block in module.model.layers])
    assert torch.equal(results[0], results[1])
    assert loads[0] == loads[1]
    assert [sum(load) for load in loads[0]] == [64, 64]
    for name, gradient in grads[0].items():
        torch.testing.assert_close(gradient, grads[1][name], atol=1e-6, rtol=1e-5, msg=name)


def test_a_recomputed_layer_sends_tokens_where_they_went_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if rounding had decided otherwise in the second pass: each call of the choice gives other experts."""
    calls: list[int] = []

    def another_choice_each_time(self: Router, scores_TE: Tensor) -> Tensor:
        calls.append(1)
        return (torch.arange(scores_TE.shape[0])[:, None] + torch.tensor([0, 1]) + len(calls)) % 4

    monkeypatch.setattr(Router, "_choose", another_choice_each_time)
    grads = []
    for again in (False, True):
        calls.clear()
        module = build("dropless", activation_checkpointing=again)
        result = module(batch()[0], labels=batch()[1])
        (result[0] / 32 + result[1]).backward()
        assert len(calls) == 2, "once a layer"
        grads.append(gradients(module))
    for name, gradient in grads[0].items():
        torch.testing.assert_close(gradient, grads[1][name], atol=1e-6, rtol=1e-5, msg=name)


def test_a_tape_remembers_the_first_pass_and_replays_it_in_the_second() -> None:
    tape, made = RoutingTape(), router()
    first, second = tape.contexts()
    with first:
        chosen = made(tokens(), tape)[0]
    with second:
        assert torch.equal(made(-tokens(), tape)[0], chosen)
    assert not torch.equal(made(-tokens())[0], chosen)


@pytest.mark.parametrize("round_up", [False, True])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_every_row_comes_back_to_its_token(top_k: int, round_up: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    chosen = torch.stack([torch.randperm(6, generator=generator)[:top_k] for _ in range(40)])
    sorting = sort_by_expert(chosen, 7, round_up=round_up)
    rows = spread(tokens(40), sorting)
    experts = chosen.flatten()[sorting.order_P[sorting.order_P < 40 * top_k]]
    assert torch.equal(experts, experts.sort().values)
    assert sorting.load_E.tolist() == [int((chosen == expert).sum()) for expert in range(7)]
    assert sorting.load_E[6] == 0
    torch.testing.assert_close(combine(rows, torch.full((40, top_k), 1 / top_k), sorting), tokens(40))


def test_loads_are_rounded_up_to_a_part_of_their_mean() -> None:
    loads = torch.tensor([0, 1, 512, 513, 1000, 1046, 0, 1024])
    assert rounded_up(loads, 4096).tolist() == [0, 16, 512, 528, 1008, 1056, 0, 1024]
    assert rounded_up(torch.tensor([3, 1, 0]), 4).tolist() == [3, 1, 0]


def test_free_places_change_neither_results_nor_gradients() -> None:
    generator = torch.Generator().manual_seed(5)
    chosen = torch.randint(0, 3, (400, 1), generator=generator)
    weights = torch.rand(400, 1, generator=generator)
    found = []
    for round_up in (False, True):
        x, matrices = tokens(400).requires_grad_(), torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
        matrices.requires_grad_()
        share = weights.clone().requires_grad_()
        sorting = sort_by_expert(chosen, 3, round_up=round_up)
        made = torch.nn.functional.grouped_mm(spread(x, sorting), matrices, offs=sorting.ends_E.int())
        mixed = combine(made, share, sorting)
        mixed.square().sum().backward()
        found.append([mixed, x.grad, matrices.grad, share.grad])
    assert sorting.order_P.shape[0] > 400, "no place was free, which proves nothing"
    assert int((sorting.order_P == 400).sum()) == sorting.order_P.shape[0] - 400
    for plain, rounded in zip(*found, strict=True):
        torch.testing.assert_close(rounded, plain, rtol=1e-5, atol=1e-5)


def test_counts_start_anew_but_those_of_the_step() -> None:
    counts = RoutingCounts.zero(4, torch.device("cpu"))
    counts.add(torch.tensor([3, 1, 0, 0]), torch.full((2, 4), 0.25), torch.tensor(1))
    assert (counts.tokens, int(counts.dropped)) == (2, 1)
    assert float(counts.entropy) == pytest.approx(2 * torch.log(torch.tensor(4.0)).item())
    counts.reset()
    assert (counts.load_E.tolist(), counts.step_load_E.tolist(), counts.tokens) == ([0, 0, 0, 0], [3, 1, 0, 0], 0)


@pytest.mark.parametrize("count", [0, 1, 1300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_one_product_in_fp32(count: int, dtype: torch.dtype) -> None:
    found = []
    for whole in (True, False):
        made = router().to(dtype)
        x = torch.randn(count, 32, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
        logits = torch.nn.functional.linear(x.float(), made.weight.float()) if whole else made(x)[3]
        (logits.float() * torch.arange(logits.shape[1])).sum().backward()
        found.append([logits, x.grad, made.weight.grad])
    for expected, one in zip(*found, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4 if dtype == torch.float32 else 1.6e-2, atol=1e-4)
