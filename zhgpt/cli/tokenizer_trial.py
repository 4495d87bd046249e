"""Trains the same model on the same text with each of several tokenizers: what ``compare --train-steps`` shows."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.manifest import Manifest
from megatron_style_data.readers import ReadOptions
from zhgpt.demo.plan import RECIPE, ZERO_1
from zhgpt.errors import UserError
from zhgpt.train.metrics import read_metrics

_VALID_FRACTION = 0.05


class TrialError(UserError):
    """A training failed; carries its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class TrialSettings:
    """What every tokenizer is tried with.

    Attributes:
        inputs: The text; of each file 5 % of the documents are held out, the same ones for every tokenizer.
        text_field: Field of the text, where the corpus does not say.
        end_of_text: The token that ends a document, where a tokenizer's files do not say.
        config: A run's recipe; None: the demo's.
        overrides: More settings for it.
        steps: Optimizer steps with the first tokenizer.
    """

    inputs: Sequence[str]
    text_field: str | None
    end_of_text: str | None
    config: Path | None
    overrides: tuple[str, ...]
    steps: int


@dataclass(frozen=True)
class Trial:
    """One tokenizer's training.

    Attributes:
        steps: Optimizer steps.
        utf8_bytes: Text that was trained on, repetitions included.
        epochs: How often all of it.
        bits_per_byte: Of the held-out documents, at the end.
    """

    steps: int
    utf8_bytes: float
    epochs: float
    bits_per_byte: float


def trials(
    tokenizers: Mapping[str, Path], settings: TrialSettings, tell: Callable[[str], None]
) -> Iterator[tuple[str, Trial]]:
    """Trains with one tokenizer after the other, in a folder that is gone afterwards.

    The first one trains for ``settings.steps``, the others for as many as have the same UTF-8 bytes of text.

    Raises:
        BadDataError: There are too few documents to hold some out. Also what ``build`` raises.
        TrialError: A training failed.
    """
    bytes_per_token: list[float] = []
    with tempfile.TemporaryDirectory(prefix="zhgpt-compare-") as folder:
        for number, (name, tokenizer) in enumerate(tokenizers.items()):
            place = Path(folder) / str(number)
            manifest = _build(tokenizer, settings, place / "data")
            train = manifest.splits["train"]
            bytes_per_token.append(train.utf8_bytes / train.tokens)
            steps = max(1, round(settings.steps * bytes_per_token[0] / bytes_per_token[-1]))
            tell(f"training with {name}: {steps:,} steps …")
            tokens, bits = _train(name, settings, steps, place)
            text = tokens * bytes_per_token[-1]
            yield name, Trial(steps, text, text / train.utf8_bytes, bits)


def _build(tokenizer: Path, settings: TrialSettings, prefix: Path) -> Manifest:
    workers = len(os.sched_getaffinity(0))
    return build(
        BuildSettings(
            list(settings.inputs),
            str(tokenizer.resolve()),
            prefix,
            workers=workers,
            valid_fraction=_VALID_FRACTION,
            read=ReadOptions(text_field=settings.text_field),
            end_of_text=settings.end_of_text,
        )
    ).manifest


def _train(name: str, settings: TrialSettings, steps: int, place: Path) -> tuple[float, float]:
    """Trains in ``place``; tokens that were trained on, and bits per byte at the end."""
    deepspeed_config = place / "zero1.json"
    deepspeed_config.write_text(json.dumps(ZERO_1))
    overrides = (
        f"data.train={place / 'data'}",
        f"run.dir={place / 'run'}",
        f"train.steps={steps}",
        f"evaluate.every_steps={steps}",
        f"checkpoint.every_steps={steps}",
        "evaluate.prompts=[]",
        "model.vocab_size=null",
        "log.tensorboard=false",
        *(() if settings.config else (f"schedule.warmup_steps={max(1, steps // 20)}",)),
        *settings.overrides,
    )
    words = ["--config", str(settings.config or RECIPE), "--deepspeed_config", str(deepspeed_config), *overrides]
    command = [sys.executable, "-m", "zhgpt.cli.main", "pretrain", "--resume", "never", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise TrialError(
            f"the training with {name} ended with exit code {done.returncode}: {''.join(last)}", done.returncode
        )
    records = read_metrics(place / "run" / "metrics.jsonl").records
    last_valid = [record["valid_bits_per_byte"] for record in records if "valid_bits_per_byte" in record][-1]
    return float(records[-1]["consumed_tokens"]), float(last_valid)
