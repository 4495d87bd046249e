"""Runs the demo's commands in order, skips what is already there, and judges the outcome."""

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from megatron_style_data.atomic import atomic_write_json
from megatron_style_data.manifest import Floor, load_manifest
from zhgpt.demo.plan import ZERO_1, DemoFolder, Step, plan_steps
from zhgpt.demo.verdict import judge
from zhgpt.distributed.environment import free_port
from zhgpt.errors import MissingInputError, SettingError, UserError


class DemoError(UserError):
    """A step failed, or the model has not learnt enough; carries the step's exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_demo(folder: DemoFolder, corpus: Sequence[Path], processes: int, overrides: Sequence[str] = ()) -> str:
    """Runs all steps.

    Args:
        folder: where everything is written; a second call goes on where the first one stopped.
        corpus: the text.
        processes: ranks of the training.
        overrides: more settings for the training.

    Returns:
        The verdict's sentence.

    Raises:
        MissingInputError: a corpus file does not exist. SettingError: the folder holds the demo of another corpus.
        DemoError: a step failed (with its exit code), or the held-out text costs too much (exit code 1).
    """
    remember_inputs(folder, corpus, overrides)
    steps = plan_steps(folder, corpus, processes, overrides)
    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        run_step(folder, step, f"[{number}/{len(steps)}]")
    print_samples(folder)
    verdict = judge(last_valid_bits_per_byte(folder), floor_of(folder))
    if not verdict.passed:
        raise DemoError(f"{verdict.sentence}. See {folder.report}", 1)
    print(f"\ndone in {time.monotonic() - started:.0f} s. The report: {folder.report}")
    return verdict.sentence


def remember_inputs(folder: DemoFolder, corpus: Sequence[Path], overrides: Sequence[str] = ()) -> None:
    """Writes down which text and settings this folder's demo is about, and refuses others."""
    for path in corpus:
        if not path.exists():
            raise MissingInputError(f"{path}: no such corpus file or folder")
    inputs = {path.name: file_identity(path) for path in corpus}
    inputs["settings"] = " ".join(overrides)
    if folder.inputs.exists():
        earlier = json.loads(folder.inputs.read_text(encoding="utf-8"))
        settings = earlier.get("settings", "")
        if settings != inputs["settings"]:
            raise SettingError(
                f"{folder.path} holds the demo with other settings ({settings or 'none'}); choose another folder "
                "with --dir"
            )
        if earlier != inputs:
            texts = ", ".join(sorted(set(earlier) - {"settings"}))
            raise SettingError(
                f"{folder.path} holds the demo of another corpus ({texts}); choose another folder with --dir"
            )
    folder.path.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder.inputs, inputs)
    atomic_write_json(folder.deepspeed_config, ZERO_1)


def file_identity(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its files' names and sizes."""
    digest = hashlib.sha256()
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            digest.update(f"{inner.relative_to(path)} {inner.stat().st_size}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def run_step(folder: DemoFolder, step: Step, number: str) -> None:
    """Runs one command in the foreground; its output is the progress."""
    if step.is_done():
        print(f"\n{number} {step.title}: already done", flush=True)
        return
    command = [word.format(free_port=free_port()) if word == "{free_port}" else word for word in step.command]
    print(f"\n{number} {step.title}\n$ {shown(command)}", flush=True)
    started = time.monotonic()
    is_training = "zhgpt.cli.rank" in command
    status = folder.path / "exit_status.json"
    if is_training:
        status.unlink(missing_ok=True)
    code = subprocess.run(command, check=False).returncode
    if is_training and status.is_file():  # the deepspeed launcher can lose the code
        code = json.loads(status.read_text(encoding="utf-8"))["exit_code"]
    elif is_training:
        code = code or 1  # it returns 0 when it was killed itself
    if code != 0:
        raise DemoError(f"{step.title}: ended with exit code {code}; run the demo again to go on from here", code)
    print(f"    {time.monotonic() - started:.0f} s", flush=True)


def shown(command: Sequence[str]) -> str:
    """A command as a person would type it."""
    words = list(command)
    if words[:3] == [sys.executable, "-m", "zhgpt.cli.main"]:
        words[:3] = ["zhgpt"]
    elif words[0].endswith("deepspeed"):
        words[0] = "deepspeed"
    return shlex.join(words)


def metrics_lines(folder: DemoFolder) -> list[dict[str, float]]:
    """All complete lines of the run's metrics."""
    lines = (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def last_valid_bits_per_byte(folder: DemoFolder) -> float:
    """Held-out bits per byte at the last evaluation."""
    values = [line["valid_bits_per_byte"] for line in metrics_lines(folder) if "valid_bits_per_byte" in line]
    if not values:
        raise DemoError(f"{folder.path}/metrics.jsonl has no evaluation; the corpus has no held-out documents", 65)
    return values[-1]


def floor_of(folder: DemoFolder) -> Floor:
    """What token and pair frequencies of the training text reach."""
    floor = load_manifest(folder.dataset).floor
    if floor is None:
        raise DemoError(f"{folder.dataset}: too little text to measure token frequencies; use a larger corpus", 65)
    return floor


def print_samples(folder: DemoFolder) -> None:
    """Shows what the model wrote at the last evaluation."""
    files = sorted((folder.path / "samples").glob("step-*.jsonl"))
    if not files:
        return
    print(f"\nWhat the model writes after {int(files[-1].stem.removeprefix('step-'))} steps:")
    for line in files[-1].read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        print(f"  【{sample['prompt']}】{sample['text'].replace(chr(10), ' ↵ ')}")
