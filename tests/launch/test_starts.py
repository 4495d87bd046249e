"""launch/pretrain.py under each launcher, as a user starts it: no compiler, no ninja, no activated environment."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import ROOT, Tiny, losses

from zhgpt.distributed.environment import free_port

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

BIN = Path(sys.executable).parent
SCRIPT = str(ROOT / "launch" / "pretrain.py")
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
QUICK = ("train.steps=4", "evaluate.every_steps=4", "checkpoint.every_steps=4")


def start(*words: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(words), capture_output=True, text=True, timeout=180, check=False, env=environment or BARE, cwd="/tmp"
    )


def status(run_dir: Path) -> dict[str, object]:
    return json.loads((run_dir / "exit_status.json").read_text())


@pytest.fixture(scope="module")
def reference(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of a plain one-process start."""
    folder = tmp_path_factory.mktemp("plain")
    done = start(sys.executable, SCRIPT, *tiny.argv(folder, *QUICK))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((folder / "environment.json").read_text())["launcher"] == "python"
    return losses(folder)


def test_a_bare_deepspeed_needs_no_compiler_and_no_activated_environment(
    tiny: Tiny, tmp_path: Path, reference: list[float]
) -> None:
    launcher = (str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", str(free_port()))
    done = start(*launcher, SCRIPT, *tiny.argv(tmp_path, *QUICK, stage=3))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "built successfully" not in done.stdout
    assert losses(tmp_path) == pytest.approx(reference, abs=1e-5)
    assert json.loads((tmp_path / "environment.json").read_text())["launcher"] == "deepspeed"


def test_torchrun_starts_the_same_script(tiny: Tiny, tmp_path: Path, reference: list[float]) -> None:
    launcher = (str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", str(free_port()))
    done = start(*launcher, SCRIPT, *tiny.argv(tmp_path, *QUICK))
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path) == pytest.approx(reference, abs=1e-5)
    assert json.loads((tmp_path / "environment.json").read_text())["launcher"] == "torchrun"


def test_torchrun_loses_the_code_of_a_missing_dataset_and_the_file_keeps_it(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "exit_status.json").write_text(json.dumps({"exit_code": 75, "reason": "of the attempt before"}))
    launcher = (str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", str(free_port()))
    done = start(*launcher, SCRIPT, *tiny.argv(tmp_path, f"data.train={tmp_path}/nothing"))
    assert done.returncode == 1
    assert status(tmp_path)["exit_code"] == 66
    assert f"{tmp_path}/nothing" in str(status(tmp_path)["reason"])


def test_sigterm_at_zhgpt_pretrain_saves_and_gives_75_and_the_same_command_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    argv = tiny.argv(tmp_path, "train.steps=100000", "checkpoint.every_steps=100000", "evaluate.every_steps=100000")
    command = [str(BIN / "zhgpt"), "pretrain", "-n", "2", *argv]
    launcher = subprocess.Popen(command, env=BARE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        give_up_at = time.monotonic() + 90
        while not (tmp_path / "metrics.jsonl").exists() or len(losses_so_far(tmp_path)) < 3:
            assert time.monotonic() < give_up_at, "the run did not start"
            assert launcher.poll() is None, launcher.communicate()[0][-3000:]
            time.sleep(0.1)
        launcher.send_signal(signal.SIGTERM)
        output, _ = launcher.communicate(timeout=60)
    finally:
        launcher.kill()
    assert launcher.returncode == 75, output[-3000:]
    assert status(tmp_path)["exit_code"] == 75
    done_steps = len(losses(tmp_path))
    assert (tmp_path / "checkpoints" / f"step-{done_steps:08d}" / "COMPLETE").is_file()
    more = tiny.argv(tmp_path, f"train.steps={done_steps + 2}", "evaluate.every_steps=100000")
    done = start(str(BIN / "zhgpt"), "pretrain", "-n", "2", *more)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(losses(tmp_path)) == done_steps + 2


def losses_so_far(run_dir: Path) -> list[str]:
    return (run_dir / "metrics.jsonl").read_text().splitlines()


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_lives(tiny: Tiny, tmp_path: Path) -> None:
    program = "import sys, time; from pathlib import Path; from zhgpt.train.run_folder import RunFolder, RunLock\n"
    program += "lock = RunLock(RunFolder(Path(sys.argv[1]))); print('locked', flush=True); time.sleep(120)"
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        done = start(str(BIN / "zhgpt"), "pretrain", "-n", "2", *tiny.argv(tmp_path, *QUICK))
    finally:
        holder.kill()
        holder.wait(timeout=10)
    assert done.returncode == 74
    assert f"{tmp_path}: in use by a live run (process {holder.pid}" in done.stderr


def test_a_dry_run_prints_the_plan_and_starts_nothing(tiny: Tiny, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    done = start(
        str(BIN / "zhgpt"), "pretrain", "-n", "2", "--dry-run", *tiny.argv(run_dir, "optim.learning_rate=2e-5")
    )
    assert done.returncode == 0, done.stderr
    for words in ("= 256 tokens a step", "FLOPs a token", '"train_batch_size": 8', "is a fine-tuning value"):
        assert words in done.stdout
    assert not run_dir.exists()
    script = start(sys.executable, SCRIPT, "--dry-run", *tiny.argv(run_dir))
    assert '"train_batch_size": 8' in script.stdout
    assert not run_dir.exists()


def test_wrong_settings_are_said_once_before_anything_starts(tiny: Tiny, tmp_path: Path) -> None:
    done = start(str(BIN / "zhgpt"), "pretrain", "-n", "2", *tiny.argv(tmp_path, "optim.learnin_rate=1"))
    assert done.returncode == 2
    assert done.stderr.count("did you mean optim.learning_rate") == 1
    assert "Traceback" not in done.stderr
    done = start(str(BIN / "zhgpt"), "pretrain", "-n", "3", *tiny.argv(tmp_path))
    assert done.returncode == 2
    assert "global_batch_size 8 is not a multiple of" in done.stderr
    assert status(tmp_path)["exit_code"] == 2
    done = start(str(BIN / "zhgpt"), "pretrain", *tiny.argv(tmp_path, f"data.train={tmp_path}/nothing"))
    assert done.returncode == 66
    assert status(tmp_path)["exit_code"] == 66
    done = start(str(BIN / "zhgpt"), "pretrain", "--hosts", "2", *tiny.argv(tmp_path))
    assert done.returncode == 2
    assert "--hosts 2 needs --host-rank, --master-address and --master-port" in done.stderr
