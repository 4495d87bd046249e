"""The demo's steps as commands: what runs, what it leaves behind, and when it need not run again."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zhgpt.distributed.environment import visible_gpus_setting

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "demo.yaml"
CORPUS = (HERE / "laws.jsonl.zst", HERE / "sanguo.jsonl.zst")
VOCAB_SIZE = 8192
VALID_FRACTION = 0.04
ZERO_1: dict[str, Any] = {"zero_optimization": {"stage": 1}}


@dataclass(frozen=True)
class DemoFolder:
    """Where the demo keeps what it makes; also the training run's folder."""

    path: Path

    @property
    def tokenizer(self) -> Path:
        return self.path / "demo_tokenizer"

    @property
    def dataset(self) -> Path:
        return self.path / "data" / "demo"

    @property
    def deepspeed_config(self) -> Path:
        return self.path / "demo_zero1.json"

    @property
    def inputs(self) -> Path:
        return self.path / "demo_inputs.json"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    title: str
    command: tuple[str, ...]
    is_done: Callable[[], bool]


def plan_steps(folder: DemoFolder, corpus: Sequence[Path], processes: int, overrides: Sequence[str]) -> list[Step]:
    """The commands, in order.

    Args:
        folder: where everything is written.
        corpus: JSONL, text or Parquet files.
        processes: ranks of the training.
        overrides: more settings for the training, such as ``train.steps=50``.
    """
    zhgpt = (sys.executable, "-m", "zhgpt.cli.main")
    inputs = [word for path in corpus for word in ("--input", str(path))]
    launcher = (str(Path(sys.executable).with_name("deepspeed")), *which_ranks(processes), "--master_port")
    return [
        Step(
            f"Train a tokenizer with {VOCAB_SIZE} tokens",
            (*zhgpt, "tokenizer", "train", *inputs, "--vocab-size", str(VOCAB_SIZE), "--output", str(folder.tokenizer)),
            lambda: (folder.tokenizer / "tokenizer.json").is_file(),
        ),
        Step(
            "Tokenise the text into an indexed dataset",
            (
                *(*zhgpt, "data", "build", *inputs, "--tokenizer", str(folder.tokenizer)),
                *("--output", str(folder.dataset), "--workers", "2", "--valid-fraction", str(VALID_FRACTION)),
            ),
            lambda: Path(f"{folder.dataset}.meta.json").is_file(),
        ),
        Step("Verify the dataset", (*zhgpt, "data", "verify", str(folder.dataset)), lambda: finished(folder)),
        Step(
            f"Pretrain on {processes} process(es) with ZeRO-1",
            (
                *(*launcher, "{free_port}", "--module", "zhgpt.cli.rank", "--config", str(RECIPE)),
                *("--deepspeed_config", str(folder.deepspeed_config), f"run.dir={folder.path}"),
                *(f"data.train={folder.dataset}", f"launch.world_size={processes}"),
                *(*batch_settings(processes), *overrides),
            ),
            lambda: finished(folder),
        ),
        Step(
            "Export to transformers, checked against the engine's logits",
            (*zhgpt, "export", "hf", "--checkpoint", str(folder.path), "--output", str(folder.export)),
            lambda: (folder.export / "config.json").is_file(),
        ),
        Step(
            "Let the exported model speak",
            (*zhgpt, "generate", "--model", str(folder.export), "--prompt", prompts()[0], "--max-new-tokens", "60"),
            lambda: False,
        ),
        Step("Write the report", (*zhgpt, "report", str(folder.path)), lambda: False),
    ]


def which_ranks(processes: int) -> tuple[str, str]:
    """What tells DeepSpeed's launcher how many ranks to start, or on which GPUs where CUDA_VISIBLE_DEVICES names others than
    the first.

    With ``--num_gpus`` it ignores that variable and takes the first GPUs of the host, whoever has them
    (deepspeed/launcher/runner.py).
    """
    numbers = [part.strip() for part in (visible_gpus_setting() or "").split(",")][:processes]
    first = [str(number) for number in range(processes)]
    if numbers == first or len(numbers) < processes or not all(number.isdigit() for number in numbers):
        return "--num_gpus", str(processes)
    return "--include", f"localhost:{','.join(numbers)}"


def batch_settings(processes: int) -> list[str]:
    """The recipe's global batch cut for this many ranks; where it does not divide, it is rounded up."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    sequence_length = recipe["data"]["sequence_length"]
    sequences = recipe["train"]["global_batch_tokens"] // sequence_length
    micro_batch_size = -(-sequences // processes)
    return [
        f"train.micro_batch_size={micro_batch_size}",
        f"train.global_batch_tokens={micro_batch_size * processes * sequence_length}",
    ]


def prompts() -> list[str]:
    """The demo's fixed prompts, from its recipe."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    return list(recipe["evaluate"]["prompts"])


def finished(folder: DemoFolder) -> bool:
    """Whether the training reached its last step."""
    status = folder.path / "exit_status.json"
    return status.is_file() and json.loads(status.read_text(encoding="utf-8"))["exit_code"] == 0
