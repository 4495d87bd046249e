"""Text from a model in training: plain forward passes, no cache, the same on every rank."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def sample_continuations(
    forward: Callable[[Tensor, Tensor], Tensor],
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    seed: int,
    context_length: int,
    end_of_text_id: int | None = None,
) -> list[list[int]]:
    """Return the new tokens after each prompt, cut before ``end_of_text_id``.

    Calls ``forward`` exactly ``max_new_tokens`` times with shapes that follow from the prompts' lengths alone, even
    when every text has ended: ZeRO-3 gathers weights inside the forward pass, so all ranks must make the same number of
    them, and two ranks' devices may round differently. Draws come from a CPU generator.

    Args:
        forward: (tokens (N, S) int64 on the CPU, last (N,) int64) -> logits (N, vocab_size) at position ``last`` of
            each row. Rows are padded on the right, where a causal model does not see it.
        prompts: N token lists; an empty one starts as a document does, after ``end_of_text_id``.
        max_new_tokens: tokens to draw for each prompt.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draw among this many likeliest tokens; None or 0 for all.
        seed: seeds the generator.
        context_length: the last tokens that the model is shown at most.
        end_of_text_id: ends a text; None to go on.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = [list(prompt) or _document_start(end_of_text_id) for prompt in prompts]
    texts = [list(start) for start in starts]
    for _ in range(max_new_tokens if texts else 0):
        windows = [text[-context_length:] for text in texts]
        last = torch.tensor([len(window) - 1 for window in windows])
        tokens = torch.zeros(len(windows), int(last.max()) + 1, dtype=torch.int64)
        for row, window in zip(tokens, windows, strict=True):
            row[: len(window)] = torch.tensor(window)
        logits = forward(tokens, last).detach().float().cpu()
        for text, token in zip(texts, draw_tokens(logits, temperature, top_k, generator).tolist(), strict=True):
            text.append(token)
    return [_new_tokens(text[len(start) :], end_of_text_id) for text, start in zip(texts, starts, strict=True)]


def draw_tokens(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """Draw one token a row from logits (N, vocab_size) fp32 on the CPU; (N,) int64."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / temperature
    if top_k:
        weakest = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < weakest, float("-inf"))
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)


def _document_start(end_of_text_id: int | None) -> list[int]:
    assert end_of_text_id is not None, "an empty prompt needs end_of_text_id to start from"
    return [end_of_text_id]


def _new_tokens(new: list[int], end_of_text_id: int | None) -> list[int]:
    return new[: new.index(end_of_text_id)] if end_of_text_id in new else new
