"""Variants that a sampler proposes, each after the results before it; the record survives a crash and goes on."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from zhgpt.ablate.execute import Sweep, standing
from zhgpt.ablate.expand import make_variant
from zhgpt.ablate.folder import AblationFolder, held
from zhgpt.ablate.grid import Grid, Search, Settings, Span
from zhgpt.ablate.observed import observe
from zhgpt.ablate.plan import Plan, save_plan
from zhgpt.ablate.planning import plan_variant
from zhgpt.errors import SettingError

if TYPE_CHECKING:
    import optuna

PREFIX = "trial"


def check_search() -> None:
    """Refuses a search where optuna is not installed, before anything is trained.

    Raises:
        SettingError: says how to install it.
    """
    try:
        importlib.import_module("optuna")
    except ImportError as error:
        raise SettingError(
            f"search needs optuna, which cannot be imported ({error}): pip install 'zhgpt[search]'"
        ) from error


def is_trial(variant: str) -> bool:
    """Whether a variant of a plan was proposed by a search."""
    return variant.startswith(PREFIX) and variant.removeprefix(PREFIX).isdigit()


@dataclass(frozen=True)
class Proposals:
    """The study in the ablation's folder.

    A proposal is a function of the sampler's seed, its number and the results before it: a search that was interrupted
    proposes what it would have proposed.
    """

    search: Search
    folder: AblationFolder

    def study(self, number: int) -> "optuna.Study":
        """The study with the sampler for the proposal of this number."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = (self.search.seed * 1_000_003 + number) % 2**32
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        storage = JournalStorage(JournalFileBackend(str(self.folder.search_journal)))
        return optuna.create_study(
            study_name="search", storage=storage, sampler=samplers[self.search.sampler](), load_if_exists=True
        )

    def open_or_next(self) -> tuple[int, Settings] | None:
        """The proposal that was being trained when the search stopped, or a new one; None when all are told."""
        from optuna.trial import TrialState

        trials = self.study(0).get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                return trial.number, decoded(trial.params)
        if len(trials) >= self.search.trials:
            return None
        asked = self.study(len(trials)).ask({key: _distribution(span) for key, span in self.search.space.items()})
        return asked.number, decoded(asked.params)

    def tell(self, number: int, value: float | None) -> None:
        """Records the result; None: it has none, because it diverged, did not fit or was no legal model."""
        from optuna.trial import TrialState

        self.study(0).tell(number, value, state=None if value is not None else TrialState.FAIL)


def run_search(grid: Grid, sweep: Sweep) -> Plan:
    """Proposes, trains and records until all trials are done.

    Args:
        grid: with a search.
        sweep: its plan holds the grid's own variants, already run.

    Returns:
        The plan with all trials.

    Raises:
        StoppedBySignal: asked to stop; the trial that was on goes on at the next call.
    """
    assert grid.search is not None
    plan = sweep.plan
    with held(sweep.folder.lock("search")) as lock:
        if lock is None:
            sweep.say("the search runs elsewhere, skipped")
            return plan
        proposals = Proposals(grid.search, sweep.folder)
        while (proposal := proposals.open_or_next()) is not None:
            number, settings = proposal
            plan, value = _train(grid, replace(sweep, plan=plan), f"{PREFIX}{number:03d}", settings)
            proposals.tell(number, value)
            shown = "no result" if value is None else f"{value:.4f} bits per byte"
            sweep.say(f"trial {number + 1} of {grid.search.trials}: {_shown(settings)}: {shown}")
    return plan


def _train(grid: Grid, sweep: Sweep, name: str, settings: Settings) -> tuple[Plan, float | None]:
    plan = sweep.plan
    if name not in {variant.name for variant in plan.variants}:
        try:
            planned = plan_variant(grid, sweep.folder, make_variant(grid, name, settings), plan)
        except SettingError as error:
            sweep.say(f"{name} cannot run: {str(error).splitlines()[0]}")
            return plan, None
        plan = replace(plan, variants=(*plan.variants, planned))
        save_plan(sweep.folder, plan)
    cells = [cell for cell in plan.cells if cell.variant.name == name]
    replace(sweep, plan=plan).run(cells)
    runs = [run for run in observe(sweep.folder, plan) if run.cell.variant.name == name]
    bits = [run.bits for run in runs if run.bits is not None]
    ended = [standing(sweep.folder, cell).state for cell in cells]
    return plan, fmean(bits) if bits and all(state == "done" for state in ended) else None


def decoded(params: dict[str, Any]) -> Settings:
    """Values as a grid states them: choices are kept as JSON, because a study holds only plain values."""
    return {key: json.loads(value) if isinstance(value, str) else value for key, value in params.items()}


def _distribution(span: Span) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if span.choices is not None:
        return CategoricalDistribution([json.dumps(choice, ensure_ascii=False) for choice in span.choices])
    assert span.low is not None
    assert span.high is not None
    if span.whole:
        return IntDistribution(int(span.low), int(span.high), log=span.log)
    return FloatDistribution(span.low, span.high, log=span.log)


def _shown(settings: Settings) -> str:
    parts: Sequence[str] = [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
    ]
    return ", ".join(parts)
