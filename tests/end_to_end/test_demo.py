"""The whole way on a person's own text, through the real commands and the real deepspeed launcher."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from tiny import DEMO_TEXT

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SMALL = (
    "model.hidden_size=64",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
)
SHORT = (
    "train.steps=4",
    "evaluate.every_steps=2",
    "evaluate.samples=4",
    "evaluate.max_new_tokens=4",
    "log.every_steps=1",
)

FRESH_PROCESS = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokens = tokenizer("话说天下大势，", return_tensors="pt")
text = model.generate(**tokens, max_new_tokens=8, do_sample=False)
print(json.dumps([type(model).__name__, len(tokenizer), model.config.vocab_size, tokenizer.decode(text[0])]))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], "subprocess.CompletedProcess[str]"]:
    folder = tmp_path_factory.mktemp("demo")
    corpus = folder / "mine.jsonl"
    with zstandard.open(DEMO_TEXT, "rt", encoding="utf-8") as lines:
        corpus.write_text("".join(line for _, line in zip(range(40), lines, strict=False)), encoding="utf-8")
    command = [sys.executable, "-m", "zhgpt.cli.main", "demo", "--corpus", str(corpus), "--dir", str(folder / "run")]
    command += ["--num-processes", "2", *SMALL, *SHORT]
    return folder / "run", command, run(command)


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def test_four_steps_are_too_few_and_the_demo_says_so(demo) -> None:
    _, _, done = demo
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "is less than 0.5, so the model has learnt little more than which tokens are frequent" in done.stderr


def test_every_command_is_shown_and_the_run_folder_is_whole(demo) -> None:
    folder, _, done = demo
    for word in (
        "tokenizer train",
        "data build",
        "data verify",
        "deepspeed --num_gpus 2",
        "export hf",
        "generate",
        "report",
    ):
        assert word in done.stdout
    status = json.loads((folder / "exit_status.json").read_text())
    assert status["exit_code"] == 0
    for name in (
        "run_config.yaml",
        "deepspeed.json",
        "environment.json",
        "metrics.jsonl",
        "events.jsonl",
        "report.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "tensorboard").iterdir())
    assert json.loads((folder / "environment.json").read_text())["world_size"] == 2


def test_it_ends_with_text_for_prompts_fixed_beforehand(demo) -> None:
    _, _, done = demo
    assert "What the model writes after 4 steps:" in done.stdout
    assert done.stdout.count("【") >= 3


def test_a_fresh_process_loads_the_export_with_transformers_alone(demo) -> None:
    folder, _, _ = demo
    loaded = run([sys.executable, "-c", FRESH_PROCESS, str(folder / "export")])
    assert loaded.returncode == 0, loaded.stderr
    name, tokens, vocab_size, text = json.loads(loaded.stdout.splitlines()[-1])
    assert (name, tokens, vocab_size) == ("Qwen3ForCausalLM", 8192, 8192)
    assert text.startswith("话说天下大势，")


def test_a_second_call_trains_nothing_again(demo) -> None:
    folder, command, _ = demo
    before = (folder / "metrics.jsonl").read_bytes()
    again = run(command)
    assert again.returncode == 1
    assert again.stdout.count("already done") == 5
    assert (folder / "metrics.jsonl").read_bytes() == before
