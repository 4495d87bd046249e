"""Cleans a corpus by a recipe: tasks, duplicates, shards, samples, ledger; goes on where an interrupted run stopped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_json, atomic_write_text
from megatron_style_data.cleaning.accounts import Accounts
from megatron_style_data.cleaning.chain import prepare_steps
from megatron_style_data.cleaning.clean_task import CleanTasks, read_record
from megatron_style_data.cleaning.duplicates import mark_duplicates
from megatron_style_data.cleaning.near_threshold import near_pages
from megatron_style_data.cleaning.places import Places
from megatron_style_data.cleaning.plan import Task, fingerprint, plan_tasks
from megatron_style_data.cleaning.publish_task import PublishTasks
from megatron_style_data.cleaning.recipe import Recipe
from megatron_style_data.cleaning.samples import Samples
from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.ledger import Ledger, ledger_of, ledger_record
from megatron_style_data.ledger_page import ledger_page

# Called with what is being done, how much of it is done and how much there is, in bytes of text, about.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CleanResult:
    """What a cleaning came to.

    Attributes:
        output: The folder.
        ledger: What happened; None where jobs were submitted and are still to run.
        resumed_tasks: Tasks that an earlier run had finished.
        jobs: Slurm's numbers of the jobs.
    """

    output: Path
    ledger: Ledger | None
    resumed_tasks: int = 0
    jobs: tuple[str, ...] = ()


def clean(
    recipe: Recipe, output: Path, *, workers: int = 1, near: int = 0, force: bool = False, tell: Tell | None = None
) -> CleanResult:
    """Cleans a corpus.

    Args:
        recipe: What to do.
        output: The folder to write.
        workers: Processes on this machine. The output does not depend on it.
        near: Write tables of so many documents nearest each threshold, on either side.
        force: Replace what is in the folder.
        tell: Called as the work goes on.

    Raises:
        UserError: A setting, an input, a list or the disk is at fault.
    """
    if workers < 1:
        raise SettingError(f"workers {workers}: expected at least 1.")
    places = Places(output)
    for section in recipe.inputs:
        if Path(section.path).is_dir() and output.resolve().is_relative_to(Path(section.path).resolve()):
            raise SettingError(
                f"{output}: lies in the input {section.path}, and would be read with it; choose an output outside of it."
            )
    prepare_steps(recipe.steps)  # a list that is missing is said before anything is written
    tasks = plan_tasks(recipe)
    open_folder(places, fingerprint(recipe, tasks), near, force)
    job = FinishTask(recipe, tasks, output, workers, near)
    if recipe.executor == "slurm":
        return CleanResult(output, None, 0, _submit(job))
    done = {task.number for task in tasks if places.record("clean", task.number).exists()}
    total = sum(task.utf8_bytes for task in tasks)
    so_far = sum(tasks[number].utf8_bytes for number in done)
    say = tell or (lambda work, done, total: None)
    say("cleaning", so_far, total)

    def finished(number: int) -> None:
        nonlocal so_far
        so_far += tasks[number].utf8_bytes
        say("cleaning", so_far, total)

    from megatron_style_data.cleaning.executors import run_locally

    left = [task.number for task in tasks if task.number not in done]
    run_locally(CleanTasks(recipe, tasks, output, near), len(tasks), left, workers, places.logs / "clean", finished)
    return CleanResult(output, finish(job, say), len(done))


class FinishTask:
    """What follows when all tasks are done, as a step of a datatrove pipeline of one task."""

    def __init__(self, recipe: Recipe, tasks: tuple[Task, ...], output: Path, workers: int, near: int) -> None:
        """Holds what to do; the arguments are those of ``clean``."""
        self.recipe, self.tasks, self.output, self.workers, self.near = recipe, tasks, output, workers, near

    def __repr__(self) -> str:
        return "finish: duplicates, shards, ledger"

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        """Does it."""
        if not Places(self.output).ledger.exists():
            finish(self, lambda work, done, total: None)


def finish(job: FinishTask, say: Tell) -> Ledger:
    """Finds duplicates, writes the shards, samples and the ledger, and removes what the tasks left.

    Raises:
        UserError: Nothing is left of the corpus, or the disk is at fault.
    """
    from megatron_style_data.cleaning.executors import run_locally

    places, recipe, number_of_tasks = Places(job.output), job.recipe, len(job.tasks)
    accounts, samples = _cleaned(places, recipe, number_of_tasks, job.near)
    if sum(step.seen for step in accounts.steps.values()) == 0:
        named = ", ".join(section.path for section in recipe.inputs[:3])
        dropped = "; ".join(f"{count} {reason}" for reason, count in accounts.unreadable.items()) or "nothing was in it"
        raise BadDataError(f"{named}: the corpus is empty, not one document was found ({dropped}).")
    duplicates: dict[str, Any] = {}
    if recipe.deduplicate is not None and _left(accounts):
        say("finding duplicates", 0, 0)
        duplicates = mark_duplicates(places, recipe.deduplicate, number_of_tasks, job.workers)
    left = [number for number in range(number_of_tasks) if not places.record("publish", number).exists()]
    say("writing shards", 0, 0)
    step = PublishTasks(job.output, recipe.tokenizer)
    run_locally(step, number_of_tasks, left, job.workers, places.logs / "publish", lambda number: None)
    for number in range(number_of_tasks):
        accounts.add(read_record(places.record("publish", number))[0])
    ledger = ledger_of(recipe, job.tasks, accounts, duplicates)
    _write_samples(places, recipe, samples, job.near)
    atomic_write_text(places.page, ledger_page(ledger, samples))
    atomic_write_json(places.ledger, ledger_record(ledger))
    shutil.rmtree(places.work)
    return ledger


def open_folder(places: Places, plan: str, near: int, force: bool) -> None:
    """Makes the output folder ready, or finds that an unfinished cleaning in it is the same one.

    Raises:
        StorageError: The folder holds a finished cleaning, or something else.
        SettingError: It holds an unfinished cleaning of another recipe or other files.
    """
    output = places.output
    if force:
        for path in (places.ledger, places.page, places.data, *places.samples, places.work, places.slurm):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    if places.ledger.exists():
        raise StorageError(f"{output}: holds a cleaned corpus already; choose another output, or replace it (--force).")
    if places.plan.exists():
        found = json.loads(places.plan.read_bytes())
        if found != {"fingerprint": plan, "near": near}:
            raise SettingError(
                f"{output}: holds an unfinished cleaning of another recipe, or its inputs changed; choose another "
                "output, or begin anew (--force)."
            )
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise StorageError(f"{output}: is there already and is no cleaned corpus; choose another output.")
    atomic_write_json(places.plan, {"fingerprint": plan, "near": near})


def _submit(job: FinishTask) -> tuple[str, ...]:
    from megatron_style_data.cleaning.executors import submit_to_slurm

    assert job.recipe.slurm is not None, "load_recipe sees to it"
    output = job.output.resolve()
    clean_step = CleanTasks(job.recipe, job.tasks, output, job.near)
    cores = job.recipe.slurm.cpus_per_task
    finish_step = FinishTask(job.recipe, job.tasks, output, cores, job.near)
    stages: list[tuple[str, Callable[..., None], int, int]] = [
        ("clean", clean_step, len(job.tasks), 1),
        ("finish", finish_step, 1, cores),
    ]
    return tuple(submit_to_slurm(stages, job.recipe.slurm, Places(output).slurm))


def _cleaned(places: Places, recipe: Recipe, tasks: int, near: int) -> tuple[Accounts, Samples]:
    """Counts and samples of all tasks."""
    accounts = Accounts()
    samples = Samples(recipe.samples_a_step, near, recipe.sample_characters)
    for number in range(tasks):
        counted, sampled = read_record(places.record("clean", number))
        accounts.add(counted)
        samples.merge(sampled)
    return accounts, samples


def _left(accounts: Accounts) -> int:
    dropped = sum(sum(sum(r.values()) for r in source.dropped.values()) for source in accounts.sources.values())
    return sum(source.read.documents for source in accounts.sources.values()) - dropped


def _write_samples(places: Places, recipe: Recipe, samples: Samples, near: int) -> None:
    for folder in places.samples[:2]:
        for label in recipe.steps:
            entries = samples.entries(f"{folder.name}/{label}")
            if entries:
                lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
                atomic_write_text(folder / f"{label}.jsonl", lines)
    if near:
        for label, page in near_pages(recipe, samples).items():
            atomic_write_text(places.samples[2] / f"{label}.md", page)
