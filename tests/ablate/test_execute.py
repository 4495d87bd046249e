"""Which runs are started: what has a result is skipped, what runs elsewhere is left alone, what stopped goes on."""

import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_ablation import MadeUp, planned

from zhgpt.ablate import execute
from zhgpt.ablate.child import Interruption
from zhgpt.ablate.execute import Standing, Sweep, standing
from zhgpt.ablate.folder import held, is_held
from zhgpt.errors import StoppedBySignal

Make = Callable[..., MadeUp]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that would have been started, in order; each would have reached its last step."""
    names: list[str] = []

    def pretend(arguments: object, place: object, log: Path, interruption: object, lock: int | None) -> int:
        assert lock is not None, "a run was started without its lock"
        names.append(log.stem)
        run = log.parent.parent / "runs" / log.stem
        run.mkdir(parents=True, exist_ok=True)
        (run / "exit_status.json").write_text('{"exit_code": 0, "reason": "reached step 10"}')
        return 0

    monkeypatch.setattr(execute, "run_pretrain", pretend)
    return names


def sweep(made: MadeUp, said: list[str], *, retry: bool = False) -> Sweep:
    return Sweep(made.folder, made.plan, Interruption(), said.append, retry)


def test_all_variants_of_a_seed_come_before_the_next_seed(made_up: Make, started: list[str]) -> None:
    made = made_up([planned("a"), planned("b")], seeds=(1, 2))
    sweep(made, []).run(made.plan.cells)
    assert started == ["a-seed1", "b-seed1", "a-seed2", "b-seed2"]


def test_what_has_a_result_is_skipped_and_the_rest_goes_on(made_up: Make, started: list[str]) -> None:
    made = made_up([planned("a")], seeds=(1, 2, 3, 4, 5, 6))
    for seed, code in ((1, 0), (2, 3), (3, 76), (4, 75), (5, 137)):
        made.run(f"a-seed{seed}", {5: 2.0}, code=code)
    said: list[str] = []
    sweep(made, said).run(made.plan.cells)
    assert started == ["a-seed4", "a-seed5", "a-seed6"]
    assert said[:3] == [
        "[1/6] a-seed1: done, skipped",
        "[2/6] a-seed2: diverged, skipped",
        "[3/6] a-seed3: out of memory, skipped",
    ]
    assert said[3:5] == ["[4/6] a-seed4: goes on", "[4/6] a-seed4: done after 0 s"]


def test_retry_runs_again_what_diverged_or_did_not_fit_and_nothing_else(made_up: Make, started: list[str]) -> None:
    made = made_up([planned("a"), planned("huge", problem="its probe ended with 76", problem_code=76)], seeds=(1, 2, 3))
    for seed, code in ((1, 0), (2, 3), (3, 76)):
        made.run(f"a-seed{seed}", {5: 2.0}, code=code)
    sweep(made, [], retry=True).run(made.plan.cells)
    assert started == ["a-seed2", "a-seed3"]


def test_a_run_whose_lock_a_live_process_holds_is_never_started_again(made_up: Make, started: list[str]) -> None:
    """Both kinds of lock: the sweep's, held by another array's task, and the run's own, held by a rank."""
    made = made_up([planned("a")], seeds=(1, 2, 3))
    made.run("a-seed2", {5: 2.0}, code=None)
    holder = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    places = [made.folder.lock("a-seed1"), made.folder.run("a-seed2").lock]
    processes = []
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", holder, str(place)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        assert [process.stdout.readline() for process in processes if process.stdout] == ["held\n"] * 2
        said: list[str] = []
        sweep(made, said).run(made.plan.cells)
    finally:
        for process in processes:
            process.communicate("\n", timeout=30)
    assert started == ["a-seed3"]
    assert said[:2] == ["[1/3] a-seed1: runs elsewhere, skipped", "[2/3] a-seed2: runs elsewhere, skipped"]


def test_a_child_that_outlives_the_sweep_keeps_the_lock(tmp_path: Path) -> None:
    """As when the sweep is killed and its run goes on: the descriptor that the child inherited holds it."""
    path = tmp_path / "locks" / "a.lock"
    with held(path) as lock:
        assert lock is not None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    try:
        assert is_held(path)
        with held(path) as again:
            assert again is None
    finally:
        child.communicate(b"\n", timeout=30)
    assert not is_held(path)
    assert path.read_text().startswith("process ")


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(path)
    assert not is_held(path)
    assert not is_held(tmp_path / "none.lock")


def test_a_signal_between_two_runs_ends_the_sweep(made_up: Make, started: list[str]) -> None:
    made = made_up([planned("a")], seeds=(1, 2))
    stopped = sweep(made, [])
    stopped.interruption.received = signal.SIGTERM
    with pytest.raises(StoppedBySignal, match="the same command goes on"):
        stopped.run(made.plan.cells)
    assert started == ["a-seed1"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, "done"),
        (3, "diverged"),
        (76, "out of memory"),
        (75, "stopped"),
        (137, "failed"),
        (2, "failed"),
        (1, "failed"),
    ],
)
def test_an_exit_code_is_a_standing(made_up: Make, code: int, expected: str) -> None:
    made = made_up([planned("a")], seeds=(1,))
    made.run("a-seed1", {5: 2.0}, code=code, reason="why")
    assert standing(made.folder, made.plan.cells[0]) == Standing(expected, code, "why")  # type: ignore[arg-type]


def test_a_run_without_an_exit_status_was_killed(made_up: Make) -> None:
    made = made_up([planned("a")], seeds=(1, 2))
    made.run("a-seed1", {5: 2.0}, code=None)
    states = [standing(made.folder, cell) for cell in made.plan.cells]
    assert [state.state for state in states] == ["failed", "not started"]
    assert states[0].reason == "killed before it could say why"


def test_a_launcher_that_was_killed_leaves_its_code_and_last_words(
    made_up: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_up([planned("a")], seeds=(1,))

    def killed(arguments: object, place: object, log: Path, interruption: object, lock: int | None) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("step 3\n\nstep 4\n")
        return 137

    monkeypatch.setattr(execute, "run_pretrain", killed)
    sweep(made, []).run(made.plan.cells)
    assert standing(made.folder, made.plan.cells[0]) == Standing("failed", 137, "step 3 step 4")
