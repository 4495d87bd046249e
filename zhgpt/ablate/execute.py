"""Runs the cells of a plan, each at most once at a time wherever it is asked for, each on its own when it fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zhgpt.ablate.child import Interruption, last_lines, run_pretrain
from zhgpt.ablate.folder import AblationFolder, held, is_held
from zhgpt.ablate.plan import Cell, Plan, arguments_of
from zhgpt.config.quantities import duration_text
from zhgpt.errors import DivergedError, OutOfMemoryError, StoppedBySignal, StorageError
from zhgpt.train.run_folder import RunFolder, read_exit_status, write_killed_status

State = Literal["done", "diverged", "out of memory", "stopped", "failed", "running", "cannot run", "not started"]

ENDINGS: dict[int, State] = {
    0: "done",
    DivergedError.exit_code: "diverged",
    OutOfMemoryError.exit_code: "out of memory",
    StoppedBySignal.exit_code: "stopped",
}
RESULTS: tuple[State, ...] = ("done", "diverged", "out of memory", "cannot run")
"""What is an answer: such a run is not started again unless asked to. Everything else goes on at the next call."""


@dataclass(frozen=True)
class Standing:
    """How a cell stands: in a word, with its exit code and the reason where it ended."""

    state: State
    exit_code: int | None = None
    reason: str = ""


def standing(folder: AblationFolder, cell: Cell) -> Standing:
    """How a cell stands, from its folder alone; costs next to nothing."""
    variant, run = cell.variant, folder.run(cell.name)
    if variant.problem:
        state: State = "out of memory" if variant.problem_code == OutOfMemoryError.exit_code else "cannot run"
        return Standing(state, variant.problem_code, variant.problem)
    if is_held(folder.lock(cell.name)) or is_held(run.lock):
        return Standing("running")
    status = read_exit_status(run)
    if status is not None:
        code = int(status["exit_code"])
        return Standing(ENDINGS.get(code, "failed"), code, str(status.get("reason") or ""))
    if run.has_run():
        return Standing("failed", None, "killed before it could say why")
    return Standing("not started")


@dataclass(frozen=True)
class Sweep:
    """Everything that running cells needs.

    Attributes:
        folder: the ablation's.
        plan: what is to run.
        interruption: remembers that somebody asked to stop.
        say: told what happens, a line each.
        retry: run those again that diverged or ran out of memory.
    """

    folder: AblationFolder
    plan: Plan
    interruption: Interruption
    say: Callable[[str], None]
    retry: bool = False

    def run(self, cells: list[Cell]) -> None:
        """Runs cells one after another; what one of them ends with does not touch the others.

        Raises:
            StoppedBySignal: asked to stop; the run that was on has saved.
        """
        for cell in cells:
            self.run_cell(cell)
            if self.interruption.received:
                raise StoppedBySignal("stopped by a signal; what ran has saved, and the same command goes on")

    def run_cell(self, cell: Cell) -> Standing:
        """Runs one cell, unless it has its result or runs elsewhere."""
        title = f"[{cell.number + 1}/{len(self.plan.cells)}] {cell.name}"
        before = standing(self.folder, cell)
        again = self.retry and before.state in ("diverged", "out of memory") and not cell.variant.problem
        if before.state in RESULTS and not again:
            self.say(f"{title}: {before.state}, skipped")
            return before
        with held(self.folder.lock(cell.name)) as lock:
            if lock is None or is_held(self.folder.run(cell.name).lock):
                self.say(f"{title}: runs elsewhere, skipped")
                return Standing("running")
            before = self._standing_alone(cell)
            if before.state in RESULTS and not again:  # it ended while this process was on its way
                self.say(f"{title}: {before.state}, skipped")
                return before
            self.say(f"{title}: {'goes on' if self.folder.run(cell.name).has_run() else 'starts'}")
            started = time.monotonic()
            after = self._start(cell, lock)
            took = duration_text(time.monotonic() - started)
            why = "" if after.state == "done" else f" ({after.reason.splitlines()[0][:160]})" if after.reason else ""
            self.say(f"{title}: {after.state} after {took}{why}")
            return after

    def _standing_alone(self, cell: Cell) -> Standing:
        """The standing as seen by whoever holds the cell's lock."""
        status = read_exit_status(self.folder.run(cell.name))
        if status is None:
            return Standing("not started")
        code = int(status["exit_code"])
        return Standing(ENDINGS.get(code, "failed"), code, str(status.get("reason") or ""))

    def _start(self, cell: Cell, lock: int) -> Standing:
        run, log = self.folder.run(cell.name), self.folder.log(cell.name)
        run.exit_status.unlink(missing_ok=True)  # a launcher that refuses leaves none of its own
        arguments = arguments_of(self.folder, self.plan, cell)
        code = run_pretrain(arguments, self.plan.place, log, self.interruption, lock)
        return self._conclude(run, cell, code)

    def _conclude(self, run: RunFolder, cell: Cell, code: int) -> Standing:
        """Makes the run's exit status say how it ended where nobody else could write it."""
        if code == StorageError.exit_code and is_held(run.lock):
            return Standing("running", None, "the run's folder is in use by a live run")
        if code != 0 and read_exit_status(run) is None:
            run.path.mkdir(parents=True, exist_ok=True)
            said = last_lines(self.folder.log(cell.name))
            write_killed_status(run, code, said or f"ended with {code}", self.plan.place.processes * self.plan.hosts)
        return self._standing_alone(cell)
