"""The chunked head and loss against all logits at once."""

import pytest
import torch
from torch import Tensor

from zhgpt.model import loss as loss_module
from zhgpt.model.loss import linear_cross_entropy, reference_linear_cross_entropy, target_nats

VOCAB, PADDED, HIDDEN, TOKENS = 500, 512, 32, 150


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 rows, softmax of 20: 150 tokens make three chunks, each of up to four parts, the last ones partial."""
    monkeypatch.setattr(loss_module, "CHUNK_ENTRIES", 64 * PADDED)
    monkeypatch.setattr(loss_module, "FP32_ENTRIES", {"cpu": 20 * PADDED})
    monkeypatch.setattr(loss_module, "PRODUCT_ROWS", {"cpu": 200})


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(PADDED, HIDDEN, generator=generator).mul(0.3).to(dtype).requires_grad_()
    labels = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    labels[::7] = -100
    return hidden, weight, labels


def value_and_gradients(
    function, hidden: Tensor, weight: Tensor, labels: Tensor, z_loss_coef: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    value = function(hidden, weight, labels, VOCAB, z_loss_coef)
    (value.flatten()[0] / 100).backward()
    return value.detach(), hidden.grad, weight.grad


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()


def test_value_and_gradients_equal_the_reference_in_fp32() -> None:
    found = value_and_gradients(linear_cross_entropy, *inputs())
    expected = value_and_gradients(reference_linear_cross_entropy, *inputs())
    for one, other in zip(found, expected, strict=True):
        assert relative(one, other) < 1e-5


def test_the_nats_of_each_target_are_the_terms_of_the_sum() -> None:
    hidden, weight, labels = inputs()
    nats = target_nats(hidden, weight, labels.view(2, -1), VOCAB)
    assert nats.shape == (2, TOKENS // 2)
    assert not nats.requires_grad
    logits = (hidden @ weight.t())[:, :VOCAB]
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    assert relative(nats.flatten(), expected) < 1e-6
    assert (nats.flatten()[labels == -100] == 0).all()
    assert relative(nats.sum(), linear_cross_entropy(hidden, weight, labels, VOCAB)) < 1e-6


def test_value_and_gradients_follow_the_reference_in_bf16() -> None:
    """The fp32 reference on the same bf16 numbers is the truth; bf16 keeps 8 bits of each product."""
    hidden, weight, labels = inputs(torch.bfloat16)
    found = value_and_gradients(linear_cross_entropy, hidden, weight, labels)
    expected = value_and_gradients(reference_linear_cross_entropy, hidden.float(), weight.float(), labels)
    assert [x.dtype for x in found] == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert relative(found[0], expected[0]) < 1e-3
    assert relative(found[1], expected[1]) < 5e-3
    assert relative(found[2], expected[2]) < 5e-3


def test_autocast_computes_in_bf16_and_gives_fp32_gradients() -> None:
    hidden, weight, labels = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradients(linear_cross_entropy, hidden, weight, labels)
    expected = value_and_gradients(linear_cross_entropy, hidden.to(torch.bfloat16), weight.to(torch.bfloat16), labels)
    assert [x.dtype for x in found] == [torch.float32] * 3
    assert found[0] == expected[0]
    assert relative(found[2], expected[2]) < 5e-3


def test_value_and_gradients_with_a_z_loss_equal_the_reference() -> None:
    hidden, weight, labels = inputs()
    found = value_and_gradients(linear_cross_entropy, hidden, weight, labels, 0.1)
    expected = value_and_gradients(reference_linear_cross_entropy, hidden, weight, labels, 0.1)
    for one, other in zip(found, expected, strict=True):
        assert relative(one, other) < 1e-5
    without = value_and_gradients(linear_cross_entropy, hidden, weight, labels)
    assert found[0][0] - found[0][1] == pytest.approx(without[0].item(), rel=1e-6)
    assert relative(found[1], without[1]) > 0.1, "a z-loss that changes no gradient proves nothing"


def test_the_z_loss_in_bf16_follows_the_reference() -> None:
    hidden, weight, labels = inputs(torch.bfloat16)
    found = value_and_gradients(linear_cross_entropy, hidden, weight, labels, 0.1)
    expected = value_and_gradients(reference_linear_cross_entropy, hidden.float(), weight.float(), labels, 0.1)
    assert [x.dtype for x in found] == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert max(relative(one, other) for one, other in zip(found, expected, strict=True)) < 5e-3


def test_positions_without_a_target_have_no_z_loss() -> None:
    hidden, weight, labels = inputs()
    kept = labels != -100
    some = linear_cross_entropy(hidden, weight, labels, VOCAB, 0.1)
    only = linear_cross_entropy(hidden[kept], weight, labels[kept], VOCAB, 0.1)
    torch.testing.assert_close(some, only, rtol=1e-6, atol=0)
    some[0].backward()
    assert hidden.grad[~kept].abs().max() == 0


def test_without_grad_only_the_value_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, labels = inputs()
    expected = linear_cross_entropy(hidden, weight, labels, VOCAB).detach()

    def no_gradient_work(*arguments: object) -> None:
        raise AssertionError("gradients were computed under no_grad")

    monkeypatch.setattr(loss_module, "_add_product", no_gradient_work)
    with torch.no_grad():
        assert linear_cross_entropy(hidden, weight, labels, VOCAB) == expected


def test_a_frozen_head_still_gives_the_hidden_states_their_gradient() -> None:
    hidden, weight, labels = inputs()
    linear_cross_entropy(hidden, weight.detach(), labels, VOCAB).backward()
    expected = value_and_gradients(reference_linear_cross_entropy, hidden, weight, labels)[1] * 100
    assert relative(hidden.grad, expected) < 1e-5


def test_padded_rows_change_nothing_and_get_no_gradient() -> None:
    hidden, weight, labels = inputs()
    before = linear_cross_entropy(hidden, weight, labels, VOCAB)
    with torch.no_grad():
        weight[VOCAB:] = 1e3
    after = linear_cross_entropy(hidden, weight, labels, VOCAB)
    after.backward()
    assert after == before
    assert weight.grad[VOCAB:].abs().max() == 0


def test_positions_without_a_target_cost_nothing() -> None:
    hidden, weight, labels = inputs()
    kept = labels != -100
    some = linear_cross_entropy(hidden, weight, labels, VOCAB)
    only = linear_cross_entropy(hidden[kept], weight, labels[kept], VOCAB)
    torch.testing.assert_close(some, only, rtol=1e-6, atol=0)
    some.backward()
    assert hidden.grad[~kept].abs().max() == 0


def test_no_target_at_all_costs_exactly_zero() -> None:
    hidden, weight, labels = inputs()
    value = linear_cross_entropy(hidden, weight, torch.full_like(labels, -100), VOCAB)
    value.backward()
    assert value == 0
    assert hidden.grad.abs().max() == 0


@pytest.mark.parametrize("z_loss_coef", [0.0, 0.1])
def test_all_logits_never_exist_at_once(monkeypatch: pytest.MonkeyPatch, z_loss_coef: float) -> None:
    largest = 0
    plain_mm = torch.mm

    def watched_mm(left: Tensor, right: Tensor, **options: Tensor) -> Tensor:
        nonlocal largest
        product = plain_mm(left, right, **options)
        if product.shape[1] == PADDED:
            largest = max(largest, product.shape[0])
        return product

    monkeypatch.setattr(torch, "mm", watched_mm)
    linear_cross_entropy(*inputs(), VOCAB, z_loss_coef).flatten()[0].backward()
    assert largest == 64


def test_a_target_whose_share_underflows_costs_what_it_should() -> None:
    """Its softmax is 0 in fp32; the loss is the distance of its logit from the largest, 200 nats and more."""
    hidden, weight, labels = inputs()
    with torch.no_grad():
        hidden *= 60.0
    found = value_and_gradients(linear_cross_entropy, hidden, weight, labels)
    expected = value_and_gradients(reference_linear_cross_entropy, hidden, weight, labels)
    assert expected[0] > 2e4
    for one, other in zip(found, expected, strict=True):
        assert relative(one, other) < 1e-5


def test_a_gpu_computes_the_shares_that_a_cpu_does() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(3))
    targets = torch.arange(5)[:, None]
    for one, other in zip(
        loss_module._shares(logits.clone(), targets), loss_module._shares_on_cpu(logits, targets), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)
