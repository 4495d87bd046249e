"""One call of `zhgpt ablate`: what each of its options does, in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zhgpt.ablate.child import Interruption, check_place
from zhgpt.ablate.execute import Sweep
from zhgpt.ablate.folder import AblationFolder, held
from zhgpt.ablate.grid import Grid
from zhgpt.ablate.listing import plan_text
from zhgpt.ablate.loading import load_grid
from zhgpt.ablate.plan import Plan, load_plan, save_plan
from zhgpt.ablate.planning import make_plan, needs_probes, place_of
from zhgpt.ablate.probe import Prober
from zhgpt.distributed.environment import in_slurm_job
from zhgpt.errors import SettingError


@dataclass
class Session:
    """A grid, its folder, and who is told what happens."""

    file: Path
    overrides: Sequence[str]
    grid: Grid
    folder: AblationFolder
    say: Callable[[str], None]
    interruption: Interruption = field(default_factory=Interruption)

    @classmethod
    def open(
        cls, file: Path, overrides: Sequence[str], directory: Path | None, say: Callable[[str], None]
    ) -> "Session":
        """Reads the grid; starts and writes nothing."""
        grid = load_grid(file, overrides)
        folder = AblationFolder(directory or Path("ablations") / grid.name)
        return cls(file, overrides, grid, folder, say)

    def plan(self, *, show: bool = False, always_probe: bool = False) -> Plan:
        """Makes the plan and saves it; others who do the same wait."""
        with self.interruption.listening(), held(self.folder.lock("plan"), wait=True):
            plan = make_plan(self.grid, self.folder, self._prober(always_probe))
            save_plan(self.folder, plan)
        if show:
            self.say(plan_text(plan, self.folder))
        return plan

    def show(self, *, probe: bool) -> None:
        """What ``--dry-run`` prints; nothing is trained but the probes."""
        if not probe and needs_probes(self.grid):
            names = ", ".join(self.grid.constraints)
            raise SettingError(f"constraints {names} need probes: leave --no-probe out")
        with self.interruption.listening(), held(self.folder.lock("plan"), wait=True):
            plan = make_plan(self.grid, self.folder, self._prober(probe))
        self.say(plan_text(plan, self.folder))

    def run(self, *, only: int | None, retry: bool) -> None:
        """Runs all that has no result yet, or one cell of the saved plan, and writes the report."""
        check_place(place_of(self.grid), in_slurm_job())
        if only is not None:
            plan = load_plan(self.folder) if self.folder.plan.exists() else self.plan()
            cells = [cell for cell in plan.cells if cell.number == only]
            if not cells:
                raise SettingError(f"--only {only}: the runs are numbered 0 to {len(plan.cells) - 1}")
        else:
            plan = self.plan()
            cells = plan.cells
            self.say(plan_text(plan, self.folder))
        sweep = Sweep(self.folder, plan, self.interruption, self.say, retry)
        with self.interruption.listening():
            sweep.run(cells)
        if only is None:
            self.report()

    def report(self) -> None:
        """Writes the report of what is there."""

    def submit(self, options: Sequence[str], at_once: int | None) -> None:
        """Hands the runs to Slurm."""

    def _prober(self, always: bool) -> Prober | None:
        if not always and not needs_probes(self.grid):
            return None
        return Prober(self.grid.probe, self.grid.base.config, place_of(self.grid), self.interruption, self.say)
