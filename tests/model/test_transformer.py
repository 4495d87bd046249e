"""The whole model: documents kept apart, loss and logits agree, checkpointing and mixed precision."""

import pytest
import torch
from tiny_mixture import batch, tiny_mixture
from torch.nn import functional

from zhgpt.model.head import split_losses
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM

TYPES = ("gpt2", "llama", "qwen3")
BACKENDS = ("reference", "sdpa", "flash2", "torch_varlen")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend; the two CUDA ones with their real Python layers over stand-in kernels."""
    if request.param in ("flash2", "torch_varlen"):
        request.getfixturevalue(f"{request.param}_on_cpu")
    return request.param


def loss_and_gradients(module, packed) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    module.zero_grad()
    loss = module(packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("model_type", TYPES)
def test_packed_documents_give_the_logits_of_each_document_alone(section, build, packed, backend, model_type) -> None:
    module = build(section(model_type), backend)
    logits = module(packed.tokens, None, packed.position_ids, packed.document_ids)
    for place in (slice(0, 9), slice(9, 24)):
        alone = module(packed.tokens[:1, place])
        torch.testing.assert_close(logits[:1, place], alone, rtol=0, atol=5e-6)


@pytest.mark.parametrize("model_type", TYPES)
def test_changing_document_1_leaves_document_2_unchanged(section, build, packed, backend, model_type) -> None:
    """Logits of document 2 bit for bit; the gradients of its loss, sums over both documents' positions, to 1e-6."""
    module = build(section(model_type), backend)
    changed = packed.tokens.clone()
    changed[0, :9] = (changed[0, :9] + 17) % 500
    labels = torch.full_like(packed.labels, -100)
    labels[0, 9:] = packed.labels[0, 9:]
    results = []
    for tokens in (packed.tokens, changed):
        module.zero_grad()
        logits = module(tokens, None, packed.position_ids, packed.document_ids)
        module(tokens, labels, packed.position_ids, packed.document_ids).backward()
        results.append((logits[0, 9:], {name: p.grad.clone() for name, p in module.named_parameters()}))
    (logits, gradients), (logits_after, gradients_after) = results
    assert torch.equal(logits, logits_after)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_after[name], gradient, rtol=0, atol=1e-6, msg=name)
    without_documents = [module(tokens, None, packed.position_ids)[0, 9:] for tokens in (packed.tokens, changed)]
    assert not torch.allclose(*without_documents, atol=1e-3)


@pytest.mark.parametrize("model_type", TYPES)
def test_gradients_equal_the_reference_backend(section, build, packed, backend, model_type) -> None:
    loss, gradients = loss_and_gradients(build(section(model_type), backend), packed)
    expected, expected_gradients = loss_and_gradients(build(section(model_type), "reference"), packed)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_the_cross_entropy_of_the_logits(section, build, packed, model_type, tied) -> None:
    module = build(section(model_type, tie_word_embeddings=tied))
    loss = module(packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
    logits = module(packed.tokens, None, packed.position_ids, packed.document_ids)
    assert logits.shape == (2, 24, 500)
    assert logits.dtype == loss.dtype == torch.float32
    expected = functional.cross_entropy(logits.flatten(0, 1), packed.labels.flatten(), reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_a_tied_model_has_no_head_parameter_and_trains_its_table_from_both_ends(section, build, packed) -> None:
    module = build(section())
    _, gradients = loss_and_gradients(module, packed)
    assert not any("lm_head" in name for name in gradients)
    unseen = torch.ones(500, dtype=torch.bool)
    unseen[packed.tokens.flatten()] = False
    table = gradients["model.embed_tokens.weight"]
    assert bool((table[:500][unseen].abs().sum(1) > 0).all()), "ids that only the softmax saw have a gradient"
    assert table[500:].abs().max() == 0


def test_only_the_wanted_position_of_each_sequence_is_projected(section, build, packed) -> None:
    module = build(section())
    every = module(packed.tokens, None, packed.position_ids, packed.document_ids)
    wanted = torch.tensor([4, 20])
    found = module(packed.tokens, None, packed.position_ids, packed.document_ids, logits_at=wanted)
    torch.testing.assert_close(found, every[torch.arange(2), wanted], rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [True, (1,)])
@pytest.mark.parametrize("model_type", TYPES)
def test_activation_checkpointing_changes_no_number(section, build, packed, model_type, layers) -> None:
    plain = loss_and_gradients(build(section(model_type)), packed)
    checkpointed = loss_and_gradients(build(section(model_type), activation_checkpointing=layers), packed)
    assert plain[0] == checkpointed[0]
    assert all(torch.equal(plain[1][name], checkpointed[1][name]) for name in plain[1])


def test_activation_checkpointing_keeps_less_memory(section, build, packed) -> None:
    """Bytes that autograd saves between forward and backward."""

    def saved_bytes(module) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            module(packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
        weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
        return sum(size for place, size in sizes.items() if place not in weights)

    model = section(num_hidden_layers=6)
    none, every, some = (
        saved_bytes(build(model, activation_checkpointing=layers)) for layers in (False, True, (0, 2, 4))
    )
    assert every < none / 3
    assert some == pytest.approx((none + every) / 2, rel=0.05)


@pytest.mark.parametrize("model_type", TYPES)
def test_autocast_keeps_fp32_weights_and_stays_near_fp32(section, build, packed, model_type) -> None:
    """The ZeRO-0 bf16 case: products in bf16, residual stream, norms and loss in fp32."""
    module = build(section(model_type))
    expected, expected_gradients = loss_and_gradients(module, packed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, gradients = loss_and_gradients(module, packed)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        # The slope of the key biases is zero (softmax does not see them): nothing but rounding is left there.
        if not name.endswith("k_proj.bias"):
            error = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm()
            assert error.item() < 0.05, name


@pytest.mark.parametrize("model_type", TYPES)
def test_bf16_weights_stay_near_fp32(section, build, packed, model_type) -> None:
    module = build(section(model_type))
    expected = module(packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
    found = module.to(torch.bfloat16)(packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)


def test_positions_stay_exact_in_bf16(section, build) -> None:
    """bf16 holds integers up to 256: rotations must come from integer positions, not from a cast buffer."""
    module = build(section(max_position_embeddings=512)).to(torch.bfloat16)
    assert not list(module.buffers())
    tokens = torch.randint(0, 500, (1, 512), generator=torch.Generator().manual_seed(1))
    shifted = torch.arange(512)[None].clone()
    shifted[0, 300:] += 1
    with torch.no_grad():
        difference = (module(tokens) - module(tokens, None, shifted)).abs().amax(-1)[0]
    assert difference[:300].max() == 0
    assert difference[300:].max() > 0


def test_without_positions_they_count_from_zero(section, build, packed) -> None:
    for model_type in ("gpt2", "qwen3"):
        module = build(section(model_type))
        counted = torch.arange(24).repeat(2, 1)
        assert torch.equal(module(packed.tokens), module(packed.tokens, None, counted))


@pytest.mark.parametrize("backend", ["sdpa", "torch_varlen"])
def test_forward_and_backward_never_wait_for_the_device(section, build, packed, backend: str) -> None:
    """On the meta device a tensor has no values: reading one back, or counting non-zeros, raises. Documents are counted on
    the host, as training leaves them there."""
    module = build(section(), backend, activation_checkpointing=(0,)).to("meta", torch.bfloat16)
    inputs = [x.to("meta") for x in (packed.tokens, packed.labels, packed.position_ids)]
    loss = module(*inputs, packed.document_ids)
    (loss / 48).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("scope", ["micro_batch", "sequence"])
def test_a_mixture_whose_experts_are_all_here_never_waits_itself(build, packed, scope: str) -> None:
    """As above, with the grouped products of a GPU; some GPUs wait inside them (docs/moe.md)."""
    model = tiny_mixture("dropless", scoring_func="sigmoid", bias_update_rate=0.01, router_aux_loss_scope=scope)
    module = build(model, "sdpa").to("meta", torch.bfloat16)
    inputs = [x[:, :16].to("meta") for x in (packed.tokens, packed.labels, packed.position_ids)]
    losses = split_losses(module(*inputs, packed.document_ids[:, :16]))
    (losses.objective / 32 + losses.router_loss).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_z_loss_belongs_to_training_alone_and_is_told_apart(section, packed) -> None:
    module = CausalLM(section(), "sdpa", z_loss_coef=0.01)
    initialise_weights(module, section(), seed=7)
    arguments = (packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
    held_out = module.eval()(*arguments)
    losses = split_losses(module.train()(*arguments))
    torch.testing.assert_close(losses.nats, held_out, rtol=1e-6, atol=0)
    logits = module(packed.tokens, None, packed.position_ids, packed.document_ids)
    squares = logits.logsumexp(-1).square()[packed.labels != -100]
    torch.testing.assert_close(losses.z_loss, 0.01 * squares.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.objective, losses.nats + losses.z_loss, rtol=1e-6, atol=0)


def test_a_mixture_with_a_z_loss_keeps_its_routers_loss() -> None:
    model = tiny_mixture("dropless")
    found = []
    for z_loss_coef in (0.0, 0.01):
        module = CausalLM(model, "sdpa", z_loss_coef=z_loss_coef)
        initialise_weights(module, model, seed=3)
        found.append(split_losses(module(*batch())))
    torch.testing.assert_close(found[1].nats, found[0].nats, rtol=1e-6, atol=0)
    assert found[1].router_loss == found[0].router_loss > 0
    assert found[0].z_loss is None


def test_the_embedding_norm_makes_the_scale_of_a_row_irrelevant(section, packed) -> None:
    """Without it the first layer reads a row as it is; with it only its direction. The tied head still reads the row."""
    for embedding_norm in (False, True):
        model = section("llama", embedding_norm=embedding_norm, tie_word_embeddings=False, rms_norm_eps=1e-12)
        module = CausalLM(model, "sdpa")
        initialise_weights(module, model, seed=7)
        before = module(packed.tokens).detach()
        with torch.no_grad():
            module.get_parameter("model.embed_tokens.weight").mul_(3.0)
        assert torch.allclose(module(packed.tokens), before, atol=1e-4) == embedding_norm


def test_logits_are_divided_by_the_width_ratio(section, build, packed) -> None:
    usual, scaled = section(), section(mup_base_width=16)
    module, divided = build(usual), build(scaled)
    divided.load_state_dict(module.state_dict())
    torch.testing.assert_close(divided(packed.tokens), module(packed.tokens) / 4, rtol=0, atol=1e-6)
