"""The demo's bookkeeping: one folder, one corpus; commands shown as a person types them; failures keep their code."""

import json
import sys
from pathlib import Path

import pytest

from zhgpt.demo.plan import DemoFolder, Step, batch_settings, finished, plan_steps, prompts, which_ranks
from zhgpt.demo.run import DemoError, last_valid_bits_per_byte, remember_inputs, run_step, shown
from zhgpt.errors import MissingInputError, SettingError


def test_a_corpus_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such corpus file or folder"):
        remember_inputs(DemoFolder(tmp_path / "demo"), [tmp_path / "nothing.jsonl"])


def test_a_folder_keeps_to_one_corpus(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("一")
    second.write_text("二")
    folder = DemoFolder(tmp_path / "demo")
    remember_inputs(folder, [first])
    remember_inputs(folder, [first])
    with pytest.raises(
        SettingError, match=r"holds the demo of another corpus \(a.txt\); choose another folder with --dir"
    ):
        remember_inputs(folder, [second])
    with pytest.raises(
        SettingError, match=r"holds the demo with other settings \(none\); choose another folder with --dir"
    ):
        remember_inputs(folder, [first], ["train.steps=3"])
    first.write_text("三")
    with pytest.raises(SettingError, match="another corpus"):
        remember_inputs(folder, [first])


def test_a_step_that_fails_ends_the_demo_with_its_code(tmp_path: Path) -> None:
    step = Step("Fail", (sys.executable, "-c", "raise SystemExit(65)"), lambda: False)
    with pytest.raises(DemoError, match="Fail: ended with exit code 65; run the demo again") as raised:
        run_step(DemoFolder(tmp_path), step, "[1/1]")
    assert raised.value.exit_code == 65


def test_a_step_that_is_done_does_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_step(DemoFolder(tmp_path), Step("Skip", ("/nonexistent",), lambda: True), "[1/1]")
    assert "already done" in capsys.readouterr().out


def test_the_training_is_finished_only_when_its_exit_status_says_0(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path)
    assert not finished(folder)
    (tmp_path / "exit_status.json").write_text(json.dumps({"exit_code": 75}))
    assert not finished(folder)
    (tmp_path / "exit_status.json").write_text(json.dumps({"exit_code": 0}))
    assert finished(folder)


def test_a_run_without_held_out_documents_cannot_be_judged(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(DemoError, match="no evaluation"):
        last_valid_bits_per_byte(DemoFolder(tmp_path))


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        (None, ("--num_gpus", "2")),
        ("", ("--num_gpus", "2")),
        ("-1", ("--num_gpus", "2")),
        ("4", ("--num_gpus", "2")),
        ("0,1,2", ("--num_gpus", "2")),
        ("GPU-5a1b,GPU-77c2", ("--num_gpus", "2")),  # DeepSpeed's launcher takes numbers alone
        ("4, 6,7", ("--include", "localhost:4,6")),
    ],
)
def test_ranks_start_on_the_gpus_that_are_visible(
    visible: str | None, words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert which_ranks(2) == words


def test_commands_are_shown_as_a_person_types_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    steps = plan_steps(DemoFolder(tmp_path), [tmp_path / "a.txt"], 2, ["train.steps=3"])
    lines = [shown(step.command) for step in steps]
    assert lines[0].startswith("zhgpt tokenizer train --input")
    assert lines[3].startswith("deepspeed --num_gpus 2 --master_port")
    assert lines[3].endswith(
        "launch.world_size=2 train.micro_batch_size=4 train.global_batch_tokens=2048 train.steps=3"
    )
    assert lines[-1].startswith("zhgpt report")


def test_the_prompts_are_fixed_in_the_recipe() -> None:
    assert len(prompts()) >= 3


@pytest.mark.parametrize(
    ("processes", "micro", "tokens"), [(1, 8, 2048), (2, 4, 2048), (3, 3, 2304), (4, 2, 2048), (16, 1, 4096)]
)
def test_the_batch_divides_for_any_number_of_ranks(processes: int, micro: int, tokens: int) -> None:
    assert batch_settings(processes) == [f"train.micro_batch_size={micro}", f"train.global_batch_tokens={tokens}"]
