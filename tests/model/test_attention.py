"""Attention backends: equal to the reference, documents kept apart, and the choice between them."""

import importlib
import inspect
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

from zhgpt.errors import SettingError
from zhgpt.model.attention import ATTENTION_BACKENDS, AUTO_ORDER, choose_attention_backend
from zhgpt.model.packing import QUERY_BLOCK

BACKENDS = ("reference", "sdpa", "blocked", "flash2", "torch_varlen")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend; the two CUDA ones with their real Python layers over stand-in kernels."""
    if request.param in ("flash2", "torch_varlen"):
        request.getfixturevalue(f"{request.param}_on_cpu")
    return request.param


def queries(heads: int = 4, groups: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = [(2, 24, heads, 16), (2, 24, groups, 16), (2, 24, groups, 16)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def mix(name: str, document_ids: Tensor | None, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    backend = ATTENTION_BACKENDS[name]
    cpu = torch.device("cpu")
    packing = backend.pack_causal(2, 24, cpu) if document_ids is None else backend.pack(document_ids, cpu)
    mixed = backend.attend(*inputs, packing)
    slopes = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(6))
    return mixed.detach(), list(torch.autograd.grad((mixed * slopes).sum(), inputs))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("separated", [True, False])
def test_values_and_gradients_equal_the_reference(packed, backend: str, groups: int, separated: bool) -> None:
    document_ids = packed.document_ids if separated else None
    mixed, gradients = mix(backend, document_ids, queries(groups=groups))
    expected, expected_gradients = mix("reference", document_ids, queries(groups=groups))
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-6)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-5)


def test_both_cuda_layers_reached_their_kernels(packed, flash_kernels: ModuleType, backend: str) -> None:
    flash_kernels.calls.clear()
    mix(backend, packed.document_ids, queries())
    expected = ["varlen_fwd", "varlen_bwd"] if backend in ("flash2", "torch_varlen") else []
    assert flash_kernels.calls == expected


def test_document_starts_are_found_in_every_sequence_of_the_batch(packed) -> None:
    packing = ATTENTION_BACKENDS["flash2"].pack(packed.document_ids, torch.device("cpu"))
    assert packing.cu_seqlens is not None
    assert packing.cu_seqlens.dtype == torch.int32
    assert packing.cu_seqlens.tolist() == [0, 9, 24, 48]
    whole = ATTENTION_BACKENDS["flash2"].pack_causal(2, 24, torch.device("cpu"))
    assert whole.cu_seqlens is not None
    assert whole.cu_seqlens.tolist() == [0, 24, 48]


@pytest.mark.parametrize("separated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sdpa_takes_a_fused_kernel_with_and_without_a_mask(packed, separated: bool, dtype: torch.dtype) -> None:
    """Only the unfused kernel stores all B * H * S * S scores; here torch raises instead of taking it."""
    inputs = [x.detach().to(dtype).requires_grad_() for x in queries()]
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        mix("sdpa", packed.document_ids if separated else None, inputs)


def test_torch_varlen_has_the_signature_that_is_called() -> None:
    parameters = inspect.signature(varlen_attn).parameters
    names = ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert list(parameters)[:7] == names
    assert parameters["window_size"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["enable_gqa"].default is False


def test_flash_attn_has_the_signature_that_is_called(flash2_on_cpu: ModuleType) -> None:
    from flash_attn import flash_attn_varlen_func

    names = ["q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]
    assert list(inspect.signature(flash_attn_varlen_func).parameters)[:7] == names


def test_torch_varlen_traces_forward_and_backward_on_the_meta_device() -> None:
    inputs = [torch.empty(x.shape, device="meta", dtype=torch.bfloat16, requires_grad=True) for x in queries()]
    backend = ATTENTION_BACKENDS["torch_varlen"]
    mixed = backend.attend(*inputs, backend.pack_causal(2, 24, torch.device("meta")))
    mixed.sum().backward()
    assert mixed.shape == inputs[0].shape
    assert [x.grad.shape for x in inputs if x.grad is not None] == [x.shape for x in inputs]


def test_auto_takes_blocked_on_the_cpu_and_says_why_not_the_others() -> None:
    choice = choose_attention_backend("auto", "cpu", torch.bfloat16, 64)
    assert choice.name == "blocked"
    assert [reason.split(":")[0] for reason in choice.reasons] == ["flash2", "torch_varlen"]
    assert "need a CUDA GPU and this run is on 'cpu'" in choice.reasons[1]


def test_auto_does_not_take_flash2_because_its_python_layer_is_installed(flash2_on_cpu: ModuleType) -> None:
    choice = choose_attention_backend("auto", "cpu", torch.bfloat16, 64)
    assert choice.name == "blocked"
    assert choice.reasons[0] == "flash2: its kernels need a CUDA GPU and this run is on 'cpu'"


@pytest.mark.parametrize("name", ["reference", "sdpa", "blocked"])
def test_an_explicit_backend_that_can_run_is_taken_without_a_word(name: str) -> None:
    choice = choose_attention_backend(name, "cpu", torch.float32, 64)
    assert (choice.name, choice.reasons) == (name, ())


@pytest.mark.parametrize("name", ["flash2", "torch_varlen"])
def test_an_explicit_backend_that_cannot_run_is_an_error_with_the_way_out(name: str) -> None:
    expected = rf"^model\.attention_backend={name} cannot run here: .+\. Use model\.attention_backend=auto to take"
    with pytest.raises(SettingError, match=expected):
        choose_attention_backend(name, "cpu", torch.float32, 64)


def test_an_unknown_backend_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingError, match="'flash3'; known: auto, reference, blocked, sdpa, flash2, torch_varlen"):
        choose_attention_backend("flash3", "cpu", torch.float32, 64)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability", "reason"),
    [
        (torch.float32, 64, (8, 9), "compute in bf16 or fp16 and this run is in float32"),
        (torch.bfloat16, 264, (8, 9), "a multiple of 8 up to 256 and this model's is 264"),
        (torch.bfloat16, 36, (8, 9), "a multiple of 8 up to 256 and this model's is 36"),
        (torch.bfloat16, 64, (7, 5), "need compute capability 8.0 (Ampere) and this GPU has 7.5"),
        (torch.bfloat16, 64, (8, 9), None),
    ],
)
def test_what_the_cuda_kernels_need_of_model_and_gpu(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, head_dim: int, capability: tuple[int, int], reason: str | None
) -> None:
    """There is no GPU here: its compute capability is given."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    found = ATTENTION_BACKENDS["torch_varlen"].why_not("cuda", dtype, head_dim)
    assert found is None if reason is None else found is not None and reason in found


def test_auto_on_a_gpu_takes_the_first_whose_kernels_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """An L20 (8.9) with flash-attn's Python layer alone, then with its compiled kernels."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    installed = {"flash_attn", "torch.nn.attention.varlen"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    without = choose_attention_backend("auto", "cuda", torch.bfloat16, 64)
    assert without.name == "torch_varlen"
    assert without.reasons == ("flash2: flash-attn is installed without its compiled kernels (flash_attn_2_cuda)",)
    installed.add("flash_attn_2_cuda")
    assert choose_attention_backend("auto", "cuda", torch.bfloat16, 64).name == "flash2"


def test_flash2_says_that_flash_attn_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = ATTENTION_BACKENDS["flash2"].why_not("cuda", torch.bfloat16, 64)
    assert reason is not None
    assert "flash-attn is not installed (pip install --no-build-isolation flash-attn)" in reason


def test_torch_varlen_says_that_torch_is_too_old_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    why_not = ATTENTION_BACKENDS["torch_varlen"].why_not
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda query, key, value, enable_gqa: None)
    assert why_not("cuda", torch.bfloat16, 64) == f"varlen_attn of torch {torch.__version__} does not take window_size"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert why_not("cuda", torch.bfloat16, 64) == f"torch {torch.__version__} has no torch.nn.attention.varlen"


def test_auto_tries_known_backends_and_ends_with_one_that_runs_everywhere() -> None:
    assert set(AUTO_ORDER) <= set(ATTENTION_BACKENDS)
    assert ATTENTION_BACKENDS[AUTO_ORDER[-1]].why_not("cpu", torch.float32, 1) is None


def long_inputs(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    """300 positions: three blocks, the last one partial; documents that end inside a block, on its edge and after it."""
    generator = torch.Generator().manual_seed(8)
    shapes = [(3, 300, 4, 16), (3, 300, 2, 16), (3, 300, 2, 16)]
    inputs = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    ends = torch.tensor([[40, 128, 290], [129, 130, 131], [200, 250, 256]])
    return inputs, (torch.arange(300)[None, :, None] >= ends[:, None, :]).sum(-1)


@pytest.mark.parametrize("kept_bytes", [2**26, 0])
@pytest.mark.parametrize("separated", [True, False])
@pytest.mark.parametrize("together", [1, 2])
def test_blocked_attention_equals_the_reference_over_several_blocks(
    monkeypatch: pytest.MonkeyPatch, together: int, separated: bool, kept_bytes: int
) -> None:
    """With its weights kept for the backward pass, and computed again; sequences one by one, and two and then the last."""
    monkeypatch.setattr("zhgpt.model.blocked_attention.WEIGHTS_AT_ONCE", together * 4 * QUERY_BLOCK * 300)
    monkeypatch.setattr("zhgpt.model.blocked_attention.KEPT_BYTES", kept_bytes)
    inputs, document_ids = long_inputs()
    results = []
    for name in ("blocked", "reference"):
        backend = ATTENTION_BACKENDS[name]
        cpu = torch.device("cpu")
        packing = backend.pack(document_ids, cpu) if separated else backend.pack_causal(3, 300, cpu)
        mixed = backend.attend(*inputs, packing)
        results.append([mixed, *torch.autograd.grad(mixed.square().sum(), inputs)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_blocked_attention_in_bf16_is_about_as_near_the_truth_as_the_fused_kernel() -> None:
    """In the sum of the errors of result and gradients; not in each."""
    inputs, _ = long_inputs(torch.bfloat16)

    def gradients(name: str, inputs: list[Tensor]) -> list[Tensor]:
        backend = ATTENTION_BACKENDS[name]
        mixed = backend.attend(*inputs, backend.pack_causal(3, 300, torch.device("cpu")))
        return [mixed, *torch.autograd.grad(mixed.float().sin().sum(), inputs)]

    truth = gradients("reference", [x.detach().float().requires_grad_() for x in inputs])
    errors = {
        name: sum(
            ((x - true).norm() / true.norm()).item() for x, true in zip(gradients(name, inputs), truth, strict=True)
        )
        for name in ("blocked", "sdpa")
    }
    assert errors["blocked"] < 1.2 * errors["sdpa"]


def test_blocked_attention_builds_no_mask_of_all_pairs() -> None:
    _, document_ids = long_inputs()
    packing = ATTENTION_BACKENDS["blocked"].pack(document_ids, torch.device("cpu"))
    assert packing.mask is None
    assert packing.first_keys is not None
    assert packing.first_keys[:, [39, 40, 127, 128, 299]].tolist() == [
        [0, 40, 40, 128, 290],
        [0, 0, 0, 0, 131],
        [0, 0, 0, 0, 256],
    ]
    assert packing.first_key_of_blocks == ((0, 128, 128), (0, 0, 131), (0, 0, 256))


def test_blocked_attention_is_for_cpus() -> None:
    with pytest.raises(SettingError, match="blocked cannot run here: it is written for CPUs and this run is on 'cuda'"):
        choose_attention_backend("blocked", "cuda", torch.bfloat16, 64)
