"""An ablation whose runs were never trained: their folders are written from numbers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.plan import Plan, PlannedVariant


@dataclass(frozen=True)
class MadeUp:
    """An ablation whose runs are written by hand: 100 tokens a step, evaluated at the given steps."""

    folder: AblationFolder
    plan: Plan

    def run(
        self,
        name: str,
        bits: dict[int, float],
        *,
        rate: float = 1000.0,
        code: int | None = 0,
        reason: str = "",
        accelerator: str = "cpu",
        **numbers: float,
    ) -> None:
        """Writes one run's folder: held-out bits per byte by step, tokens a second, and how it ended."""
        path = self.folder.run(name).path
        path.mkdir(parents=True, exist_ok=True)
        lines = [
            {
                "step": step,
                "loss": value * 2,
                "tokens_per_second": rate,
                "consumed_tokens": step * 100,
                "valid_loss": value * 2,
                "valid_bits_per_byte": value,
                **numbers,
            }
            for step, value in bits.items()
        ]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        environment = {"host_names": ["node1"], "accelerator": accelerator, "batch_plan": {"tokens_per_step": 100}}
        (path / "environment.json").write_text(json.dumps(environment))
        if code is not None:
            (path / "exit_status.json").write_text(json.dumps({"exit_code": code, "reason": reason}))

    def document_costs(self, name: str, nats: Sequence[float], *, utf8_bytes: float) -> None:
        """Writes what each held-out document of a run costs; 10 targets each."""
        rows = [{"text": "t", "split": "valid", "document": n, "targets": 10, "nats": x} for n, x in enumerate(nats)]
        lines = [{"utf8_bytes": utf8_bytes}, *rows]
        self.folder.run(name).held_out_documents.write_text("".join(json.dumps(line) + "\n" for line in lines))


def planned(name: str, steps: int = 10, **keys: Any) -> PlannedVariant:
    """A variant of 100 tokens a step and 1,000 FLOPs a token."""
    settings = {"optim.learning_rate": 1e-3}
    return PlannedVariant(name, settings, settings, {}, steps, 100, 1000, 5000, **keys)


def made_up_plan(variants: Sequence[PlannedVariant], seeds: Sequence[int] = (1, 2, 3), **keys: Any) -> Plan:
    """A plan of these variants; the first is the baseline."""
    fields = {
        "name": "made-up",
        "question": "Does it pay?",
        "config": "recipe.yaml",
        "processes": 1,
        "hosts": 1,
        "memory_limit_gib": None,
        "constraints": ("equal_tokens",),
        "baseline": variants[0].name,
        "seeds": tuple(seeds),
        "indifference": 0.001,
        "confidence": 0.95,
        "variants": tuple(variants),
    }
    return Plan(**{**fields, **keys})
