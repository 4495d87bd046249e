"""A run's folder as training leaves it, with numbers made by a formula."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """\
run:
  name: 三国试跑
  seed: 1234
data:
  train: data/demo
  sequence_length: 512
model:
  model_type: qwen3
  hidden_size: 256
optim:
  learning_rate: 0.002
  betas: [0.9, 0.95]
train:
  steps: 1000
"""
DEEPSPEED = {
    "train_batch_size": 32,
    "zero_optimization": {"stage": 1},
    "gradient_clipping": 1.0,
    "data_types": {"grad_accum_dtype": "fp32"},
}
ENVIRONMENT: dict[str, Any] = {
    "started_at": "2026-01-31T02:00:00+08:00",
    "versions": {"zhgpt": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "deepspeed": "0.19.8"},
    "world_size": 2,
    "hosts": 1,
    "host_names": ["node1"],
    "device": "CPU",
    "attention_backend": {"name": "sdpa", "passed_over": ["flash2: needs a GPU", "torch_varlen: needs a GPU"]},
    "parameters": {"total": 3_240_000, "embedding": 1_048_576, "non_embedding": 2_191_424},
    "flops_per_token": 21_500_000,
    "batch_plan": {"steps": 1000, "tokens_per_step": 16_384, "total_tokens": 16_384_000},
    "dataset": {"prefix": "data/demo", "splits": {"train": {"tokens": 1_950_000}, "valid": {"tokens": 60_000}}},
    "floor": {
        "unigram_loss": 6.92,
        "unigram_bits_per_byte": 2.43,
        "bigram_loss": 4.70,
        "bigram_bits_per_byte": 1.65,
        "measured_on": "valid",
    },
    "warnings": ["the run has 5.1 tokens a parameter; about 20 is usual"],
}
PROMPTS = ("村民们都很高兴，在", "第一条 为了保护")
BITS_PER_NAT = 2.43 / 6.92


def metrics(steps: int = 1000, start: float = 9.1, end: float = 4.3, rate: float = 2e-3) -> list[dict[str, Any]]:
    """Records every 5 steps, an evaluation every 100; the loss decays from ``start`` to ``end`` with noise on it."""
    records: list[dict[str, Any]] = []
    for step in range(5, steps + 1, 5):
        clean = end + (start - end) * (0.75 * math.exp(-step / 70) + 0.25 * math.exp(-step / 300))
        loss = clean + 0.08 * math.sin(step * 1.7) + 0.05 * math.sin(step * 0.31)
        record = {
            "step": step,
            "loss": loss,
            "bits_per_byte": loss * BITS_PER_NAT,
            "learning_rate": rate * min(1.0, step / 100) * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2),
            "gradient_norm": 0.5 + 4 * math.exp(-step / 40) + 0.1 * math.sin(step * 2.3),
            "tokens_per_second": 31_000 + 900 * math.sin(step * 0.9),
            "mfu": 0.41 + 0.01 * math.sin(step * 0.9),
            "consumed_tokens": step * 16_384,
            "elapsed_seconds": step * 0.53,
            "eta_seconds": (steps - step) * 0.53,
        }
        if step % 100 == 0:
            held_out = clean + 0.05
            record |= {
                "valid_loss": held_out,
                "valid_perplexity": math.exp(held_out),
                "valid_bits_per_byte": held_out * BITS_PER_NAT,
            }
        records.append(record)
    return records


def samples(step: int) -> list[dict[str, Any]]:
    """The text samples of one evaluation: the older the model, the better the text."""
    texts = {
        PROMPTS[0]: (
            "的，的。的，“”“”“”",
            "村中的人都不知道，他们的人是",
            "村口敲锣打鼓，迎接玄德入城。众将皆拜谢，曰：“愿从将军。”",
        ),
        PROMPTS[1]: (
            "，，。的规定的的",
            "中华人民共和国，制定本法。",
            "公民的合法权益，规范行政行为，根据宪法，制定本法。",
        ),
    }
    age = min(2, step // 400)
    return [
        {
            "prompt": prompt,
            "text": text[age],
            "tokens": 20,
            "distinct_1": 0.3 + 0.2 * age,
            "distinct_2": 0.4 + 0.25 * age,
            "distinct_3": 0.5 + 0.24 * age,
            "repeated_4gram_share": 0.4 - 0.19 * age,
            "punctuation_share": 0.45 - 0.15 * age,
        }
        for prompt, text in texts.items()
    ]


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run's folder: ``make_run(records=..., environment=..., exit_code=...)``."""

    def make(
        records: list[dict[str, Any]] | None = None,
        environment: dict[str, Any] | None = None,
        exit_code: int | None = 0,
        reason: str = "reached step 1000",
    ) -> Path:
        folder = tmp_path / "runs" / "demo"
        records = metrics() if records is None else records
        write_lines(folder / "metrics.jsonl", records)
        (folder / "run_config.yaml").write_text(CONFIG, "utf-8")
        (folder / "deepspeed.json").write_text(json.dumps(DEEPSPEED, indent=2), "utf-8")
        (folder / "environment.json").write_text(
            json.dumps(ENVIRONMENT if environment is None else environment, ensure_ascii=False), "utf-8"
        )
        for record in records:
            if record.get("valid_loss") is not None:
                write_lines(folder / f"samples/step-{record['step']:08d}.jsonl", samples(record["step"]))
        write_lines(
            folder / "events.jsonl",
            [
                {"at": "2026-01-31T02:00:00+08:00", "event": "started", "step": 0},
                {"at": "2026-01-31T02:05:00+08:00", "event": "checkpoint_saved", "step": 500, "path": "step-00000500"},
                {"at": "2026-01-31T02:07:00+08:00", "event": "started", "step": 500},
            ],
        )
        for step in (500, 1000):
            (folder / f"checkpoints/step-{step:08d}").mkdir(parents=True)
            (folder / f"checkpoints/step-{step:08d}/COMPLETE").touch()
        (folder / "checkpoints/step-00000900").mkdir()
        if exit_code is not None:
            status = {"exit_code": exit_code, "reason": reason, "rank": 0, "world_size": 2}
            (folder / "exit_status.json").write_text(json.dumps(status), "utf-8")
        return folder

    return make
