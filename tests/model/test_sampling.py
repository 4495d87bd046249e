"""Sampling in training: windows, draws, ends, and the number of forward passes."""

import pytest
import torch
from torch import Tensor

from zhgpt.model.sampling import draw_tokens, sample_continuations

SETTINGS = {"max_new_tokens": 12, "temperature": 0.8, "top_k": 20, "seed": 3, "context_length": 16}
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9]]


def model_forward(module, calls: list[tuple[int, ...]] | None = None):
    @torch.no_grad()
    def forward(tokens: Tensor, last: Tensor) -> Tensor:
        if calls is not None:
            calls.append(tuple(tokens.shape))
        return module(tokens, logits_at=last)

    return forward


def test_greedy_continuations_equal_one_prompt_at_a_time(section, build) -> None:
    module = build(section())
    settings = SETTINGS | {"temperature": 0.0}
    together = sample_continuations(model_forward(module), PROMPTS, **settings)
    for prompt, found in zip(PROMPTS, together, strict=True):
        text = list(prompt)
        for _ in range(12):
            with torch.no_grad():
                text.append(int(module(torch.tensor([text[-16:]]))[0, -1].argmax()))
        assert found == text[len(prompt) :]


def test_the_seed_decides_the_text(section, build) -> None:
    forward = model_forward(build(section()))
    first = sample_continuations(forward, PROMPTS, **SETTINGS)
    torch.manual_seed(99)
    assert sample_continuations(forward, PROMPTS, **SETTINGS) == first
    assert sample_continuations(forward, PROMPTS, **SETTINGS | {"seed": 4}) != first


def test_the_number_and_shapes_of_forward_passes_do_not_depend_on_the_text(section, build) -> None:
    """A text that has ended goes on being computed: ZeRO-3 ranks must not part."""
    drawn = sample_continuations(model_forward(build(section())), PROMPTS, **SETTINGS)
    shapes: list[list[tuple[int, ...]]] = []
    for end in (None, drawn[0][0], drawn[1][3]):
        calls: list[tuple[int, ...]] = []
        sample_continuations(model_forward(build(section()), calls), PROMPTS, **SETTINGS, end_of_text_id=end)
        shapes.append(calls)
    assert shapes[0] == [(2, min(6 + step, 16)) for step in range(12)]
    assert all(calls == shapes[0] for calls in shapes)


def test_a_text_is_cut_before_its_end_token() -> None:
    script = torch.tensor([5, 6, 0, 7])

    def forward(tokens: Tensor, last: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(script[last - 1], 10).float()

    settings = SETTINGS | {"temperature": 0.0, "max_new_tokens": 4}
    assert sample_continuations(forward, [[1, 1]], **settings, end_of_text_id=0) == [[5, 6]]
    assert sample_continuations(forward, [[1, 1]], **settings) == [[5, 6, 0, 7]]


@pytest.mark.parametrize("top_k", [1, 3])
def test_top_k_draws_only_among_the_likeliest(top_k: int) -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(1)).expand(400, 50)
    drawn = draw_tokens(logits, 2.0, top_k, torch.Generator().manual_seed(2))
    assert set(drawn.tolist()) == set(logits[0].topk(top_k).indices.tolist())


def test_without_top_k_the_frequencies_are_those_of_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 3)
    drawn = draw_tokens(logits, 0.5, None, torch.Generator().manual_seed(2))
    frequencies = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(frequencies, (logits[0] / 0.5).softmax(0), rtol=0, atol=0.01)


def test_no_prompt_needs_no_forward_pass() -> None:
    def forward(tokens: Tensor, last: Tensor) -> Tensor:
        raise AssertionError("called")

    assert sample_continuations(forward, [], **SETTINGS) == []


def test_an_empty_prompt_starts_as_a_document_does(section, build) -> None:
    forward = model_forward(build(section()))
    found = sample_continuations(forward, [[]], **SETTINGS, end_of_text_id=0)
    assert found == sample_continuations(forward, [[0]], **SETTINGS, end_of_text_id=0)
