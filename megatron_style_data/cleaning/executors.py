"""Runs tasks through datatrove: on this machine with several processes, or as a job array of Slurm."""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger

from megatron_style_data.cleaning.recipe import SlurmSection
from megatron_style_data.errors import SettingError, StorageError

# A step of a pipeline: called with (data, rank, world size).
PipelineStep = Callable[..., None]
Done = Callable[[int], None]


def run_locally(step: PipelineStep, tasks: int, numbers: Iterable[int], workers: int, logs: Path, done: Done) -> None:
    """Runs some tasks of a pipeline of one step, each by a datatrove executor of its own.

    One executor for all would wait for ever for a process that the system killed (its pool starts another one and
    forgets the task); so its pool is replaced by one that notices, and datatrove keeps completions, statistics and logs.

    Args:
        step: What to do.
        tasks: All tasks of the pipeline.
        numbers: Those to run.
        workers: Processes; with 1 the work is done in this one.
        logs: datatrove's folder.
        done: Called with the number of each task that has ended.

    Raises:
        UserError: What a task raises.
        StorageError: A process ended without a word.
    """
    numbers = list(numbers)
    if workers == 1 or len(numbers) < 2:
        for number in numbers:
            _run_one(step, tasks, number, logs)
            done(number)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(workers, len(numbers)), context, initializer=_end_with_parent) as pool:
        running = {pool.submit(_run_one, step, tasks, number, logs): number for number in numbers}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    future.result()
                    done(number)
        except BrokenProcessPool as error:
            raise StorageError(
                f"{logs}: a process ended without a word, as the system does when memory runs out; finished tasks stay. "
                "Give the same command again, with fewer workers or smaller task_bytes."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def submit_to_slurm(stages: list[tuple[str, PipelineStep, int, int]], settings: SlurmSection, logs: Path) -> list[str]:
    """Submits pipelines to Slurm, each after the one before it.

    Args:
        stages: (name, step, tasks, cores a task) of each.
        settings: The recipe's section.
        logs: datatrove's folder; scripts, pickled pipelines and logs of jobs lie there too.

    Returns:
        Number of each job.

    Raises:
        SettingError: There is no sbatch, or it refuses.
    """
    logger.disable("datatrove")
    before: Any = None
    executors = []
    for name, step, tasks, cores in stages:
        before = SlurmPipelineExecutor(
            pipeline=[step],
            tasks=tasks,
            time=settings.time,
            partition=settings.partition,
            cpus_per_task=cores,
            mem_per_cpu_gb=settings.memory_gb_per_cpu,
            workers=settings.jobs_at_once,
            job_name=f"zhgpt-{name}",
            qos=settings.qos,
            # launch_pickled_pipeline is a script of this environment.
            env_command=f'export PATH="{Path(sys.executable).parent}:$PATH"',
            depends=before,
            logging_dir=str(logs / name),
            slurm_logs_folder=str(logs / name / "slurm"),
        )
        executors.append(before)
    try:
        before.run()
    except FileNotFoundError as error:
        raise SettingError(
            "sbatch: no such command here; submit from a host of the cluster, or take executor: local."
        ) from error
    except subprocess.CalledProcessError as error:
        raise SettingError(
            f"sbatch refused the job (exit code {error.returncode}; it says why above); the script is "
            f"{logs}/*/launch_script.slurm, its settings the recipe's section slurm."
        ) from error
    return [str(executor.job_id) for executor in executors]


def _run_one(step: PipelineStep, tasks: int, number: int, logs: Path) -> None:
    logger.disable("datatrove")  # its log of every task on stderr; errors come as exceptions
    # The step itself knows what is done, so that completions of another try are not taken for it.
    executor = LocalPipelineExecutor(
        pipeline=[deepcopy(step)],
        tasks=tasks,
        workers=1,
        logging_dir=str(logs),
        skip_completed=False,
        local_tasks=1,
        local_rank_offset=number,
    )
    # run() would start a multiprocessing manager for each task, which outlives a process that is killed.
    executor.save_executor_as_json()
    executor._run_for_rank(number)


def _end_with_parent() -> None:
    """Ends this process when its parent does, however that ends: an idle one would stay for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
