"""Text from fixed prompts at every evaluation, and the probe batch that exports are checked against."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from megatron_style_data.tokenizer import Tokenizer
from zhgpt.config.schema import EvaluateSection
from zhgpt.distributed.process_group import Ranks
from zhgpt.evaluate.text_statistics import text_statistics
from zhgpt.model.sampling import sample_continuations

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

PROBE_TOKENS = 64


@dataclass(frozen=True)
class TextSampler:
    """Continues the fixed prompts; every rank computes the same text, because ZeRO-3 gathers weights in forward."""

    tokenizer: Tokenizer
    section: EvaluateSection
    context_length: int
    seed: int
    ranks: Ranks

    def write(self, engine: "DeepSpeedEngine") -> list[dict[str, Any]]:
        """One record a prompt: prompt, continuation, tokens, and statistics of the continuation."""
        if not self.section.prompts:
            return []
        prompts = self.tokenizer.encode_batch(list(self.section.prompts))
        continuations = sample_continuations(
            lambda tokens, last: self.logits(engine, tokens, last),
            prompts,
            max_new_tokens=self.section.max_new_tokens,
            temperature=self.section.temperature,
            top_k=self.section.top_k,
            seed=self.seed,
            context_length=self.context_length,
            end_of_text_id=self.tokenizer.end_of_text_id,
        )
        records = []
        for prompt, tokens in zip(self.section.prompts, continuations, strict=True):
            text = self.tokenizer.decode(tokens)
            records.append({"prompt": prompt, "text": text, "tokens": len(tokens), **text_statistics(text)})
        return records

    def probe(self, engine: "DeepSpeedEngine") -> dict[str, torch.Tensor]:
        """Tokens (1, S) of the prompts and the engine's logits (1, S, vocab_size) for them, on the CPU."""
        ids = [token for prompt in self.tokenizer.encode_batch(list(self.section.prompts)) for token in prompt]
        ids = (ids or [self.tokenizer.end_of_text_id])[: min(PROBE_TOKENS, self.context_length)]
        tokens = torch.tensor([ids], dtype=torch.int64)
        return {"tokens": tokens, "logits": self.logits(engine, tokens)}

    def logits(self, engine: "DeepSpeedEngine", tokens: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, S, vocab_size) fp32 on the CPU; with ``last`` (B,) those of one place a row. Reached by all ranks."""
        at = None if last is None else last.to(self.ranks.device)
        logits: torch.Tensor = engine(tokens.to(self.ranks.device), logits_at=at)
        return logits.float().cpu()


def samples_path(folder: Path, step: int) -> Path:
    """``samples/step-00000100.jsonl``."""
    return folder / f"step-{step:08d}.jsonl"
