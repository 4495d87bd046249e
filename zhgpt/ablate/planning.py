"""From a grid to its plan: every variant checked as a run would, measured where needed, and given its length."""

from dataclasses import replace

from megatron_style_data.atomic import atomic_write_json
from zhgpt.ablate.child import Place
from zhgpt.ablate.constraints import Cost, largest_that_fits, micro_batches, steps_under
from zhgpt.ablate.expand import Variant, baseline_name, expand, override_words
from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.grid import Grid, Settings
from zhgpt.ablate.plan import Plan, PlannedVariant
from zhgpt.ablate.probe import Prober, ProbeResult
from zhgpt.errors import OutOfMemoryError, SettingError, UserError
from zhgpt.train.arguments import PretrainArguments
from zhgpt.train.decisions import Decisions, decide, run_numbers

_OWNED = {"train.steps": "length", "train.micro_batch_size": "largest_that_fits"}


def place_of(grid: Grid) -> Place:
    """How each run of the grid is started."""
    limit = None if grid.memory_limit_gib is None else int(grid.memory_limit_gib * 2**30)
    return Place(grid.processes, grid.hosts, limit)


def needs_probes(grid: Grid) -> bool:
    """Whether lengths or micro batches follow from steps that must be measured."""
    return grid.fits_micro_batch or (grid.length_constraint == "equal_wall_clock")


def make_plan(grid: Grid, folder: AblationFolder, prober: Prober | None) -> Plan:
    """Expands a grid, checks every variant as a run would, and gives each its length.

    Args:
        grid: the grid.
        folder: gets the variants' DeepSpeed JSONs and probes.
        prober: measures, or knows what was measured; None: nothing is known.

    Raises:
        SettingError: something cannot be used, naming the variant.
    """
    measures = prober is not None and prober.starts
    assert measures or not needs_probes(grid), "this grid cannot be planned without probes"
    variants = expand(grid)
    for variant in variants:
        _check_ownership(grid, variant)
        atomic_write_json(folder.draft(variant.name), variant.deepspeed_json)
    baseline = baseline_name(grid, variants)
    drafts = {variant.name: _draft(grid, folder, variant, prober) for variant in variants}
    costs = {name: _cost(draft) for name, draft in drafts.items()}
    budget = grid.wall_clock_seconds if grid.length_constraint == "equal_wall_clock" else None
    steps = steps_under(grid.length_constraint, costs, baseline, budget)
    planned = tuple(_with_steps(grid, folder, draft, steps.get(name)) for name, draft in drafts.items())
    return Plan(
        name=grid.name,
        question=grid.question,
        config=str(grid.base.config),
        processes=grid.processes,
        hosts=grid.hosts,
        memory_limit_gib=grid.memory_limit_gib,
        constraints=tuple(grid.constraints),
        time="seconds" if grid.time == "wall_clock" else "cpu_seconds",
        baseline=baseline,
        seeds=grid.seeds,
        indifference=grid.indifference,
        confidence=grid.confidence,
        variants=planned,
    )


def plan_variant(grid: Grid, folder: AblationFolder, variant: Variant, plan: Plan) -> PlannedVariant:
    """One more variant for a plan, as long as its baseline under the same constraint (what a search proposes)."""
    _check_ownership(grid, variant)
    atomic_write_json(folder.draft(variant.name), variant.deepspeed_json)
    draft = _draft(grid, folder, variant, None)
    costs = {plan.baseline: _cost(plan.variant(plan.baseline)), variant.name: _cost(draft)}
    return _with_steps(grid, folder, draft, steps_under(grid.length_constraint, costs, plan.baseline)[variant.name])


def _check_ownership(grid: Grid, variant: Variant) -> None:
    holds = {
        "length": grid.length_constraint,
        "largest_that_fits": "largest_that_fits" if grid.fits_micro_batch else None,
    }
    for key, kind in _OWNED.items():
        if key in variant.settings and holds[kind] is not None:
            raise SettingError(
                f"variant {variant.name} sets {key}, which the constraint {holds[kind]} decides; take one of them away "
                "(constraints: [] leaves everything as the settings say)"
            )


def _decide(grid: Grid, folder: AblationFolder, name: str, overrides: Settings) -> Decisions:
    """What a run with these settings would decide; checks everything that can be checked without starting it."""
    words = override_words({**overrides, "launch.world_size": grid.world_size})
    try:
        return decide(PretrainArguments(grid.base.config, folder.draft(name), "auto", tuple(words)), grid.world_size)
    except UserError as error:
        raise type(error)("\n".join(f"variant {name}: {line}" for line in str(error).splitlines())) from error


def _draft(grid: Grid, folder: AblationFolder, variant: Variant, prober: Prober | None) -> PlannedVariant:
    """The variant at the length of its own settings, with its micro batch and what a probe measured."""
    candidates: list[int] = []
    decisions = _decide_fitting(grid, folder, variant)
    if grid.length_constraint is not None and decisions.config.train.batch_ramp:
        raise SettingError(
            f"variant {variant.name} has train.batch_ramp, so its steps differ in size and {grid.length_constraint} cannot be "
            "turned into a number of steps; take constraints: [] and set train.steps of each variant (zhgpt pretrain --dry-run "
            "shows the tokens of so many steps)"
        )
    if grid.fits_micro_batch:
        candidates = micro_batches(decisions.plan.global_batch_size, grid.world_size)
    else:
        candidates = [decisions.plan.micro_batch_size]
    results: dict[int, ProbeResult] = {}

    def fits(size: int) -> bool:
        assert prober is not None
        tried = {**variant.overrides, "train.micro_batch_size": size}
        phases = bool(decisions.config.data.phases)
        found = prober.probe(folder.probe(variant.name), variant.name, tried, folder.draft(variant.name), phases)
        if found is not None:
            results[size] = found
        return found is None or found.fits

    size = largest_that_fits(candidates, fits) if prober is not None else candidates[-1]
    numbers = run_numbers(decisions)
    draft = PlannedVariant(
        name=variant.name,
        settings=variant.settings,
        overrides={**variant.overrides, "train.micro_batch_size": size or candidates[0]},
        deepspeed_json=variant.deepspeed_json,
        steps=decisions.plan.steps,
        tokens_per_step=decisions.plan.tokens_per_step,
        flops_per_token=numbers.flops_per_token,
        parameters=numbers.parameters,
        ramp_tokens=decisions.plan.total_tokens if decisions.config.train.batch_ramp else None,
    )
    if size is not None:
        found = results.get(size)
        if found is None:
            return draft
        return replace(draft, step_seconds=found.step_seconds, peak_memory_bytes=found.peak_memory_bytes)
    failed = results[candidates[0]]
    if not grid.fits_micro_batch and grid.length_constraint != "equal_wall_clock":
        return draft  # nothing rests on the probe: the run itself will say what is wrong
    code = OutOfMemoryError.exit_code if failed.out_of_memory else failed.exit_code
    return replace(draft, problem=f"its probe ended with {failed.exit_code}: {failed.reason}", problem_code=code)


def _decide_fitting(grid: Grid, folder: AblationFolder, variant: Variant) -> Decisions:
    """Decisions where the micro batch is still open: 1 divides whatever a larger one would."""
    open_size = {"train.micro_batch_size": 1} if grid.fits_micro_batch else {}
    return _decide(grid, folder, variant.name, {**variant.overrides, **open_size})


def _cost(draft: PlannedVariant) -> Cost:
    return Cost(draft.steps, draft.tokens_per_step, draft.flops_per_token, draft.step_seconds)


def _with_steps(grid: Grid, folder: AblationFolder, draft: PlannedVariant, steps: int | None) -> PlannedVariant:
    """The draft at its final length, checked again as a whole."""
    if steps is None:
        return draft  # it has a problem and will not run
    overrides = {**draft.overrides, "train.steps": steps}
    _decide(grid, folder, draft.name, overrides)
    return replace(draft, steps=steps, overrides=overrides)
