"""One call of `zhgpt ablate`: what each of its options does, in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zhgpt.ablate.child import Interruption, check_place
from zhgpt.ablate.execute import RESULTS, Sweep, standing
from zhgpt.ablate.expand import expand
from zhgpt.ablate.folder import AblationFolder, held
from zhgpt.ablate.grid import Grid
from zhgpt.ablate.listing import plan_text, summary
from zhgpt.ablate.loading import load_grid
from zhgpt.ablate.plan import Plan, load_plan, save_plan
from zhgpt.ablate.planning import make_plan, needs_probes, place_of
from zhgpt.ablate.probe import Prober
from zhgpt.ablate.search import check_search, is_trial, run_search
from zhgpt.distributed.environment import read_slurm_job
from zhgpt.errors import MissingInputError, SettingError


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
        with held(self.folder.lock("plan"), wait=True), self.interruption.listening():
            plan = make_plan(self.grid, self.folder, self._prober(always_probe))
            if self.grid.search is not None and self.folder.plan.exists():
                trials = [variant for variant in load_plan(self.folder).variants if is_trial(variant.name)]
                plan = replace(plan, variants=(*plan.variants, *trials))
            save_plan(self.folder, plan)
        if show:
            self.say(plan_text(plan, self.folder))
        return plan

    def show(self, *, probe: bool) -> None:
        """What ``--dry-run`` prints; nothing is trained but the probes."""
        if not probe and needs_probes(self.grid):
            names = ", ".join(self.grid.constraints)
            raise SettingError(f"constraints {names} need probes: leave --no-probe out")
        with held(self.folder.lock("plan"), wait=True), self.interruption.listening():
            plan = make_plan(self.grid, self.folder, self._prober(probe))
        self.say(plan_text(plan, self.folder))

    def run(self, *, only: int | None, retry: bool, probe: bool) -> None:
        """Runs all that has no result yet, or one cell of the saved plan, and writes the report.

        Args:
            only: the cell's number.
            retry: run those again that diverged or ran out of memory.
            probe: measure each variant first, so that the list shows what all of it will take.
        """
        check_place(place_of(self.grid), read_slurm_job() is not None)
        if self.grid.search is not None:
            check_search()
        if only is not None:
            plan = load_plan(self.folder) if self.folder.plan.exists() else self.plan()
            cells = [cell for cell in plan.cells if cell.number == only]
            if not cells:
                raise SettingError(f"--only {only}: the runs are numbered 0 to {len(plan.cells) - 1}")
        else:
            plan = self.plan(always_probe=probe)
            cells = plan.cells
            self.say(plan_text(plan, self.folder))
        sweep = Sweep(self.folder, plan, self.interruption, self.say, retry)
        with self.interruption.listening():
            sweep.run(cells)
            if self.grid.search is not None and only is None:
                run_search(self.grid, sweep)
        if only is None:
            self.report()

    def report(self) -> None:
        """Writes the report of what is there.

        Raises:
            MissingInputError: the ablation has not been planned.
        """
        if not self.folder.plan.exists():
            raise MissingInputError(f"{self.folder.plan}: nothing has run here yet; leave --report out to start")
        from zhgpt.ablate.report import write_ablation_report

        plan = load_plan(self.folder)
        page = write_ablation_report(self.folder, plan)
        for line in summary(self.folder, plan):
            self.say(line)
        self.say(f"report: {page}")

    def submit(self, options: Sequence[str], at_once: int | None) -> None:
        """Hands what has no result yet to Slurm: one job plans and probes, an array runs, a last job reports.

        Raises:
            SettingError: nothing is left to run, or sbatch refused.
        """
        from zhgpt.ablate.slurm import submit_array

        if self.grid.search is not None:
            raise SettingError("a search runs on one machine, a trial after the other: leave --slurm out")
        variants, seeds = expand(self.grid), self.grid.seeds
        numbers = list(range(len(variants) * len(seeds)))
        if self.folder.plan.exists():
            plan = load_plan(self.folder)
            if [variant.name for variant in plan.variants] == [variant.name for variant in variants]:
                finished = [cell for cell in plan.cells if standing(self.folder, cell).state in RESULTS]
                known = {(cell.variant.name, cell.seed) for cell in finished}
                pairs = [(variant.name, seed) for seed in seeds for variant in variants]
                numbers = [number for number, pair in enumerate(pairs) if pair not in known]
        if not numbers:
            raise SettingError("every run has its result; --report writes the report again")
        words = [str(self.file), *self.overrides, "--dir", str(self.folder.path)]
        jobs = submit_array(words, numbers, options, at_once, self.grid.hosts)
        self.say(f"plan: job {jobs.plan}; {len(numbers)} runs: array {jobs.array}; report: job {jobs.report}")

    def _prober(self, always: bool) -> Prober:
        """What measures where it must, and otherwise knows what was measured before."""
        starts = always or needs_probes(self.grid)
        return Prober(self.grid.probe, self.grid.base.config, place_of(self.grid), self.interruption, self.say, starts)
