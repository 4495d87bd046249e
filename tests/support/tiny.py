"""A tiny real run: dataset, recipe and command line, and how to read what it left."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from commands import zhgpt

ROOT = Path(__file__).resolve().parents[2]
DEMO_TEXT = ROOT / "zhgpt" / "demo" / "sanguo.jsonl.zst"

RECIPE = """
run: {{name: tiny, seed: 7}}
data: {{train: {prefix}, sequence_length: 32}}
model: {{model_type: {model_type}, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, {extra}}}
optim: {{name: adamw, learning_rate: 1.0e-3}}
schedule: {{name: cosine, warmup_steps: 2, minimum_ratio: 0.1}}
train: {{steps: 8, global_batch_size: 8, micro_batch_size: 4, precision: fp32}}
evaluate: {{every_steps: 4, samples: 8, prompts: [话说天下大势, 玄德曰], max_new_tokens: 4}}
checkpoint: {{every_steps: 3, keep_last: 2}}
log: {{every_steps: 1, tensorboard: false, peak_tflops: 0.1}}
launch: {{accelerator: cpu, timeout_seconds: 60}}
"""


@dataclass(frozen=True)
class Tiny:
    """Files of a tiny run, made once a test session."""

    folder: Path

    @property
    def prefix(self) -> Path:
        return self.folder / "data" / "tiny"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    def recipe(self, model_type: str = "qwen3") -> Path:
        """A recipe file for one architecture."""
        path = self.folder / f"{model_type}.yaml"
        extra = "" if model_type == "gpt2" else "num_key_value_heads: 2"
        path.write_text(RECIPE.format(prefix=self.prefix, model_type=model_type, extra=extra), encoding="utf-8")
        return path

    def argv(
        self, run_dir: Path, *overrides: str, stage: int | str = 1, model_type: str = "qwen3", resume: str = "auto"
    ) -> list[str]:
        """The arguments of launch/pretrain.py."""
        words = [
            "--config",
            str(self.recipe(model_type)),
            "--deepspeed_config",
            str(ROOT / "ds_configs" / f"zero{stage}.json"),
        ]
        return [*words, "--resume", resume, f"run.dir={run_dir}", *overrides]


def make_tiny(folder: Path) -> Tiny:
    """Tokenizer and dataset from a part of the demo's text, through the commands a user types."""
    tiny = Tiny(folder)
    text = folder / "text.jsonl"
    import zstandard

    with zstandard.open(DEMO_TEXT, "rt", encoding="utf-8") as lines:
        text.write_text("".join(line for _, line in zip(range(20), lines, strict=False)), encoding="utf-8")
    zhgpt("tokenizer", "train", "--input", text, "--vocab-size", "600", "--output", tiny.tokenizer)
    words = ("--valid-fraction", "0.1", "--workers", "1")
    zhgpt("data", "build", "--input", text, "--tokenizer", tiny.tokenizer, "--output", tiny.prefix, *words)
    return tiny


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The run's metrics lines."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: Path) -> list[float]:
    """Loss of every step."""
    return [line["loss"] for line in metrics(run_dir)]


def same_numbers(run_dir: Path) -> list[dict[str, Any]]:
    """Metrics without what a clock or the memory allocator decides."""
    clocks = {
        *("tokens_per_second", "mfu", "data_wait", "elapsed_seconds", "eta_seconds", "all_to_all_share"),
        *("peak_memory_bytes", "cpu_seconds"),
    }
    return [{key: value for key, value in line.items() if key not in clocks} for line in metrics(run_dir)]


def tensors(value: Any, place: str = "") -> dict[str, torch.Tensor]:
    """All tensors inside a nested structure, by their path in it."""
    if isinstance(value, torch.Tensor):
        return {place: value}
    if isinstance(value, dict):
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return {}
    return {name: tensor for key, inner in pairs for name, tensor in tensors(inner, f"{place}/{key}").items()}


def checkpoint_tensors(step_folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of every shard of a checkpoint."""
    found = {}
    for shard in sorted((step_folder / "engine").glob("*.pt")):
        found.update(tensors(torch.load(shard, weights_only=False), shard.name))
    assert found, f"no tensors in {step_folder}"
    return found


def assert_same_checkpoint(first: Path, second: Path) -> None:
    """Bit for bit."""
    one, other = checkpoint_tensors(first), checkpoint_tensors(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), f"{name} differs"
