"""Whether blocks are compiled, and that compiled blocks compute what plain ones do."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from zhgpt.config.loading import resolve_model
from zhgpt.config.schema import RunConfig
from zhgpt.errors import SettingError
from zhgpt.model.compiling import choose_compile, compiler_problem
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.shape import decoder_shape
from zhgpt.model.transformer import CausalLM
from zhgpt.train.compiling import agree_on_compiling


def must_not_be_asked() -> str | None:
    raise AssertionError("something was compiled although nothing depends on it")


def nothing_wrong() -> str | None:
    return None


def test_off_compiles_nothing_and_says_nothing() -> None:
    choice = choose_compile("off", "cuda", 1, must_not_be_asked)
    assert (choice.blocks, choice.reason) == (False, "")


def test_auto_leaves_blocks_plain_on_a_cpu_without_trying_a_compiler() -> None:
    choice = choose_compile("auto", "cpu", 1, must_not_be_asked)
    assert not choice.blocks
    assert choice.reason.startswith(
        "blocks are not compiled: on a CPU that gains little and costs minutes at the start"
    )
    assert not choice.is_news


def test_auto_compiles_on_a_gpu_where_a_compiler_works() -> None:
    assert choose_compile("auto", "cuda", 2, nothing_wrong).blocks


def test_auto_goes_on_without_a_compiler_and_says_why() -> None:
    choice = choose_compile("auto", "cuda", 1, lambda: "torch.compile fails on 'cuda' (no Triton) on host-1")
    assert (choice.blocks, choice.is_news) == (False, True)
    assert choice.reason == "blocks are not compiled: torch.compile fails on 'cuda' (no Triton) on host-1"


def test_auto_does_not_compile_blocks_whose_weights_zero_3_gathers() -> None:
    choice = choose_compile("auto", "cuda", 3, must_not_be_asked)
    assert (choice.blocks, choice.is_news) == (False, True)
    assert "ZeRO stage 3" in choice.reason


def test_nothing_is_compiled_where_no_block_is_dense_or_kernels_would_be_wrong() -> None:
    for facts, reason in (
        ({"dense_blocks": 0}, "every block is a mixture of experts"),
        ({"kernels": "liger"}, "train.kernels=liger gives wrong numbers in compiled blocks"),
    ):
        choice = choose_compile("auto", "cuda", 1, must_not_be_asked, **facts)
        assert (choice.blocks, choice.is_news) == (False, True)
        assert reason in choice.reason
        with pytest.raises(SettingError, match=f"train.compile=blocks cannot run here: {reason}"):
            choose_compile("blocks", "cuda", 1, must_not_be_asked, **facts)


@dataclass(frozen=True)
class OneRank:
    """What agreeing on a choice asks of the ranks, on a GPU that is not there."""

    device = torch.device("cuda", 0)
    host_names = ("host-1",)

    def gather(self, value: object) -> list[object]:
        return [value]


def test_auto_goes_on_where_the_cache_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    config = RunConfig.model_validate({"data": {"train": "x"}, "train": {"steps": 1}})
    shape = decoder_shape(resolve_model(config, 1000))
    choice = agree_on_compiling(config, shape, 1, OneRank())  # type: ignore[arg-type]
    assert not choice.blocks
    assert choice.reason.startswith("blocks are not compiled: no folder for what torch.compile makes (")
    assert choice.reason.endswith("; name one with TORCHINDUCTOR_CACHE_DIR on host-1")


def test_blocks_that_cannot_be_compiled_stop_the_run() -> None:
    expected = r"^train\.compile=blocks cannot run here: no compiler\. Use train\.compile=auto or off\.$"
    with pytest.raises(SettingError, match=expected):
        choose_compile("blocks", "cpu", 1, lambda: "no compiler")


@pytest.mark.slow
def test_a_missing_compiler_is_found_by_compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch._inductor.config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        problem = compiler_problem(torch.device("cpu"))
    assert problem is not None
    assert problem.startswith("torch.compile fails on 'cpu' (")
    assert "no-such-compiler" in problem


def losses_and_gradients(section, packed, **settings: Any) -> list[Tensor]:
    """Of a small GPT-2; compiled, its ``blocked`` attention stays between two compiled parts of each block."""
    model = section("gpt2", num_hidden_layers=settings.pop("layers", 2))
    module = CausalLM(model, settings.pop("backend", "blocked"), **settings)
    initialise_weights(module, model, 1)
    loss = module(packed.tokens, packed.labels, packed.position_ids, packed.document_ids)
    loss.backward()
    with torch.no_grad():  # at another length, as when text is written: the plain blocks
        assert module(packed.tokens[:, :7]).shape == (2, 7, 500)
    return [loss.detach(), *(parameter.grad for parameter in module.parameters())]


def test_traced_blocks_compute_what_plain_ones_do(section, packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of torch.compile but its C++ compiler; one block is computed again in the backward pass."""
    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    plain = losses_and_gradients(section, packed)
    assert counter.frame_count == 0
    traced = losses_and_gradients(section, packed, activation_checkpointing=(1,), compile_blocks=True)
    assert counter.frame_count >= 2, "parts of two blocks"
    torch.testing.assert_close(traced[0], plain[0], rtol=1e-5, atol=0)
    for found, expected in zip(traced[1:], plain[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_block_computes_what_a_plain_one_does(
    section, packed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain = losses_and_gradients(section, packed, layers=1, backend="sdpa")
    compiled = losses_and_gradients(section, packed, layers=1, backend="sdpa", compile_blocks=True)
    assert any(tmp_path.rglob("*.so")), "nothing was compiled"
    torch.testing.assert_close(compiled[0], plain[0], rtol=1e-5, atol=0)
    for found, expected in zip(compiled[1:], plain[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
