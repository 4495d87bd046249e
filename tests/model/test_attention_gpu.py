"""The CUDA kernels themselves against the reference, where there is a GPU."""

import pytest
import torch

from zhgpt.model.attention import ATTENTION_BACKENDS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: these are its kernels")


@pytest.mark.parametrize("name", ["sdpa", "flash2", "torch_varlen"])
@pytest.mark.parametrize("separated", [True, False])
def test_cuda_kernels_follow_the_reference_in_bf16(packed, name: str, separated: bool) -> None:
    """Truth is the reference in fp32 on the same bf16 numbers; bf16 outputs carry 8 bits."""
    backend, reference = ATTENTION_BACKENDS[name], ATTENTION_BACKENDS["reference"]
    reason = backend.why_not("cuda", torch.bfloat16, 64)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    generator = torch.Generator().manual_seed(5)
    shapes = [(2, 24, 8, 64), (2, 24, 2, 64), (2, 24, 2, 64)]
    inputs = [torch.randn(shape, generator=generator).cuda().bfloat16().requires_grad_() for shape in shapes]
    plain = [x.detach().float().requires_grad_() for x in inputs]
    results = []
    for way, tensors in ((backend, inputs), (reference, plain)):
        gpu = torch.device("cuda")
        packing = way.pack(packed.document_ids, gpu) if separated else way.pack_causal(2, 24, gpu)
        mixed = way.attend(*tensors, packing)
        results.append([mixed, *torch.autograd.grad(mixed.float().square().sum(), tensors)])
    for found, expected in zip(*results, strict=True):
        assert ((found.float() - expected).norm() / expected.norm()).item() < 1e-2
