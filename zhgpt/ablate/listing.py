"""The plan as a table on a terminal."""

from collections.abc import Sequence

from zhgpt.ablate.comparison import compare
from zhgpt.ablate.execute import RESULTS, standing
from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.observed import observe
from zhgpt.ablate.plan import Plan, PlannedVariant
from zhgpt.config.quantities import count_text, duration_text

HEAD = ("variant", "steps", "micro", "tokens", "FLOPs", "parameters", "step", "memory", "a run", "all seeds")


def plan_text(plan: Plan, folder: AblationFolder) -> str:
    """Every variant with its cost, how far its runs are, and what all of it will take.

    Predicted times are training alone, from probe steps; a dash where no probe has run.
    """
    cells = plan.cells
    states = [standing(folder, cell).state for cell in cells]
    open_runs = [
        cell for cell, state in zip(cells, states, strict=True) if state in ("not started", "stopped", "failed")
    ]
    counted = {state: states.count(state) for state in dict.fromkeys(states)}
    lines = [
        f"{plan.name}: {len(plan.variants)} variants × {len(plan.seeds)} seeds = {len(cells)} runs "
        f"({', '.join(f'{count} {state}' for state, count in counted.items())}), {plan.processes} process(es) each"
        + (f" on each of {plan.hosts} hosts" if plan.hosts > 1 else ""),
        f"held equal: {', '.join(plan.constraints) or 'nothing'}; baseline {plan.baseline}",
        *_table([_row(variant, len(plan.seeds)) for variant in plan.variants]),
    ]
    lines += [f"{variant.name} cannot run: {variant.problem}" for variant in plan.variants if variant.problem]
    seconds = [cell.variant.seconds for cell in open_runs if not cell.variant.problem]
    if seconds and all(value is not None for value in seconds):
        total = sum(value for value in seconds if value is not None)
        lines.append(
            f"still to train: {len(seconds)} runs, about {duration_text(total)} one after another (from probe steps; "
            "starting, evaluating and saving come on top)"
        )
    return "\n".join(lines)


def summary(folder: AblationFolder, plan: Plan) -> list[str]:
    """The sentences of the report, and the runs that are no answer yet."""
    runs = observe(folder, plan)
    open_runs = [run for run in runs if run.standing.state not in RESULTS]
    lines = [comparison.sentence for comparison in compare(plan, runs)]
    if open_runs:
        lines.append(
            f"{len(open_runs)} of {len(runs)} runs have no result ({', '.join(run.cell.name for run in open_runs[:4])}"
            f"{' …' if len(open_runs) > 4 else ''}); the same command goes on with them"
        )
    return lines


def _row(variant: PlannedVariant, seeds: int) -> list[str]:
    seconds = variant.seconds
    return [
        variant.name,
        f"{variant.steps:,}",
        str(variant.overrides["train.micro_batch_size"]),
        count_text(variant.tokens),
        f"{variant.flops:.3g}",
        count_text(variant.parameters),
        "–" if variant.step_seconds is None else f"{1000 * variant.step_seconds:.0f} ms",
        "–" if variant.peak_memory_bytes is None else f"{variant.peak_memory_bytes / 2**30:.2f} GiB",
        "–" if seconds is None else duration_text(seconds),
        "–" if seconds is None else duration_text(seconds * seeds),
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    from rich.cells import cell_len

    widths = [max(cell_len(row[column]) for row in [HEAD, *rows]) for column in range(len(HEAD))]
    lines = []
    for row in [HEAD, *rows]:
        pads = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        numbers = [pad + cell for pad, cell in zip(pads[1:], row[1:], strict=True)]
        lines.append(f"  {row[0]}{pads[0]}  {'  '.join(numbers)}")
    return lines
