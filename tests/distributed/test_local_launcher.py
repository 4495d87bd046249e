"""Our launcher: exit codes, signals, and no process left behind. Real processes, no torch."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zhgpt.distributed.local_launcher import LaunchOutcome, LaunchPlan, check_launch_plan, count_memory_kills, run_ranks
from zhgpt.errors import SettingError

RANKS = """
import sys
from zhgpt.distributed.local_launcher import LaunchPlan, run_ranks
sys.exit(run_ranks([sys.executable, "-c", sys.argv[1]], LaunchPlan(2, 1, 0, "127.0.0.1", 1)).code)
"""


def plan(processes: int = 2, hosts: int = 1, host_rank: int = 0) -> LaunchPlan:
    return LaunchPlan(processes, hosts, host_rank, "127.0.0.1", 12345)


def start(program: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RANKS, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    give_up_at = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < give_up_at, f"{path} did not appear"
        time.sleep(0.02)


def test_each_rank_learns_who_it_is(tmp_path: Path) -> None:
    program = (
        "import os; e = os.environ; "
        f"open(r'{tmp_path}/' + e['RANK'], 'w').write(' '.join(e[k] for k in "
        "('LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'ZHGPT_HOSTS')))"
    )
    assert run_ranks([sys.executable, "-c", program], plan(2, 2, 1)).code == 0
    assert (tmp_path / "2").read_text() == "0 4 2 127.0.0.1 12345 2"
    assert (tmp_path / "3").read_text() == "1 4 2 127.0.0.1 12345 2"


def test_the_code_of_the_first_rank_that_fails_is_returned() -> None:
    program = "import os, sys, time; time.sleep(0.5 * int(os.environ['RANK'])); sys.exit(65 - int(os.environ['RANK']))"
    assert run_ranks([sys.executable, "-c", program], plan()) == LaunchOutcome(65)


def test_a_rank_that_is_killed_gives_128_plus_the_signal(capsys: pytest.CaptureFixture[str]) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL) if os.environ['RANK'] == '1' else None"
    outcome = run_ranks([sys.executable, "-c", program], plan())
    assert outcome == LaunchOutcome(137, "local rank 1 was ended by SIGKILL")
    assert "local rank 1 was ended by SIGKILL" in capsys.readouterr().err


@pytest.mark.parametrize(("codes", "expected"), [((1, 76), 76), ((76, 1), 76), ((1, 1), 1), ((0, 65), 65)])
def test_a_documented_code_explains_a_lost_connection(codes: tuple[int, int], expected: int) -> None:
    program = f"import os, sys; sys.exit({codes}[int(os.environ['RANK'])])"
    assert run_ranks([sys.executable, "-c", program], plan()) == LaunchOutcome(expected)


def test_a_killed_rank_explains_the_codes_of_the_others() -> None:
    program = (
        "import os, signal, sys; os.kill(os.getpid(), signal.SIGKILL) if os.environ['RANK'] == '1' else sys.exit(74)"
    )
    assert run_ranks([sys.executable, "-c", program], plan()).code == 137


def test_a_rank_that_the_kernel_killed_for_memory_gives_76(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([3, 4])
    monkeypatch.setattr("zhgpt.distributed.local_launcher.count_memory_kills", lambda: next(counts))
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    outcome = run_ranks([sys.executable, "-c", program], plan(1))
    assert outcome.code == 76
    assert outcome.killed is not None
    assert "ran out of memory on this host; lower train.micro_batch_size" in outcome.killed


def test_the_kernel_counts_its_memory_kills() -> None:
    assert count_memory_kills() >= 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_stop_signals_reach_every_rank_and_their_code_comes_back(number: signal.Signals, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, time\n"
        "stop = lambda n, f: sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGUSR1, stop)\n"
        f"open(r'{tmp_path}/' + os.environ['RANK'], 'w').close()\n"
        "time.sleep(30)"
    )
    launcher = start(program)
    wait_for(tmp_path / "0")
    wait_for(tmp_path / "1")
    launcher.send_signal(number)
    assert launcher.wait(timeout=20) == 75


def test_ranks_do_not_outlive_a_launcher_that_is_killed(tmp_path: Path) -> None:
    program = f"import os, time; open(r'{tmp_path}/' + os.environ['RANK'], 'w').write(str(os.getpid())); time.sleep(60)"
    launcher = start(program)
    wait_for(tmp_path / "0")
    wait_for(tmp_path / "1")
    time.sleep(0.2)
    pids = [int((tmp_path / rank).read_text()) for rank in ("0", "1")]
    launcher.kill()
    launcher.wait(timeout=10)
    give_up_at = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < give_up_at, "a rank outlived its launcher"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_processes_are_refused() -> None:
    with pytest.raises(SettingError, match="--num-processes is 0; at least 1"):
        check_launch_plan(plan(0))


def test_a_host_rank_beyond_the_hosts_is_refused() -> None:
    with pytest.raises(SettingError, match="--host-rank is 2, expected 0 to 1 for --hosts 2"):
        check_launch_plan(plan(1, 2, 2))


def test_this_process_keeps_its_own_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_ranks([sys.executable, "-c", "pass"], plan(1))
    assert signal.getsignal(signal.SIGTERM) is before
