"""Kernels of norms and gated activations: torch's here, Liger-Kernel's where there is a GPU."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from zhgpt.errors import SettingError
from zhgpt.model.fused_kernels import FUSED_KERNELS, LIGER_SIGNATURES, use_kernels
from zhgpt.model.layers import GatedFeedForward, RMSNorm

needs_liger = pytest.mark.skipif(
    importlib.util.find_spec("liger_kernel") is None,
    reason="liger-kernel's Python files are not installed (make venv-dev)",
)


def test_liger_on_a_cpu_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    expected = (
        "^train.kernels=liger cannot run here: its kernels need a CUDA GPU and this run is on 'cpu'. Use train.kernels"
    )
    with pytest.raises(SettingError, match=expected):
        use_kernels(torch.nn.Module(), "liger", "cpu")


def test_liger_that_is_not_installed_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match="the package liger-kernel is not installed"):
        use_kernels(torch.nn.Module(), "liger", "cuda")


def test_another_signature_of_liger_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version whose norm takes its epsilon elsewhere."""

    class LigerRMSNormFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx, X, W, offset, eps):  # type: ignore[no-untyped-def]
            return X

    norms, gates = ModuleType("norms"), ModuleType("gates")
    norms.LigerRMSNormFunction = LigerRMSNormFunction  # type: ignore[attr-defined]
    gates.LigerSiLUMulFunction = LigerRMSNormFunction  # type: ignore[attr-defined]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for name in ("liger_kernel", "liger_kernel.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "liger_kernel.ops.rms_norm", norms)
    monkeypatch.setitem(sys.modules, "liger_kernel.ops.swiglu", gates)
    reason = FUSED_KERNELS["liger"].why_not("cuda")
    assert reason is not None
    assert reason.startswith(
        "LigerRMSNormFunction of this liger-kernel takes ctx, X, W, offset, eps; expected ctx, X, W, eps"
    )


@needs_liger
@pytest.mark.parametrize(("place", "expected"), LIGER_SIGNATURES.items(), ids=lambda item: item[-1])
def test_the_installed_liger_has_the_signatures_that_are_called(place: tuple[str, str], expected: list[str]) -> None:
    """Read from its source: to import it takes Triton, which has no build for CPUs."""
    package = importlib.util.find_spec("liger_kernel")
    assert package is not None
    assert package.submodule_search_locations
    module, name = place
    source = Path(package.submodule_search_locations[0], *module.split(".")[1:]).with_suffix(".py")
    (found,) = (
        [argument.arg for argument in method.args.args]
        for defined in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(defined, ast.ClassDef) and defined.name == name
        for method in defined.body
        if isinstance(method, ast.FunctionDef) and method.name == "forward"
    )
    assert found[: len(expected)] == expected


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton, which a CPU build of torch comes without: make test-kernels",
)
@needs_liger
def test_the_installed_liger_can_be_called() -> None:
    assert FUSED_KERNELS["liger"].why_not("cuda") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: these are its kernels")
@needs_liger
@pytest.mark.parametrize("make", [lambda: RMSNorm(64, 1e-6), lambda: GatedFeedForward(64, 96, bias=False)])
def test_liger_computes_what_torch_does(make) -> None:
    results = []
    for name in ("torch", "liger"):
        module = make().cuda()
        generator = torch.Generator("cuda").manual_seed(1)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        use_kernels(module, name, "cuda")
        x = torch.randn(3, 7, 64, device="cuda", generator=generator).requires_grad_()
        out = module(x)
        results.append([out, *torch.autograd.grad(out.sin().sum(), [x, *module.parameters()])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
