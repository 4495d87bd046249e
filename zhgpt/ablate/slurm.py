"""An ablation as three Slurm jobs: plan (and probe), an array with a task a run, and the report after it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zhgpt.errors import MissingInputError, SettingError

SCRIPT = Path("slurm/ablate.sbatch")


@dataclass(frozen=True)
class Jobs:
    """The numbers of the submitted jobs."""

    plan: str
    array: str
    report: str


def submit_array(
    words: Sequence[str], numbers: Sequence[int], options: Sequence[str], at_once: int | None, hosts: int
) -> Jobs:
    """Submits the three jobs; each waits for the one before.

    Args:
        words: the arguments of `zhgpt ablate`: grid, overrides, --dir.
        numbers: of the runs that have no result yet.
        options: of sbatch, for all three.
        at_once: tasks of the array that run at the same time; None leaves it to Slurm.
        hosts: nodes of one run.

    Raises:
        MissingInputError: the script is not below the working directory, or there is no sbatch.
        SettingError: sbatch refused, in its own words.
    """
    if not SCRIPT.is_file():
        raise MissingInputError(f"{SCRIPT} is not in {Path.cwd()}; submit from the project's folder")
    plan = _sbatch([*options, f"--nodes={hosts}"], [*words, "--plan"])
    limit = "" if at_once is None else f"%{at_once}"
    task_options = [*options, f"--nodes={hosts}", f"--array={array_text(numbers)}{limit}"]
    array = _sbatch([*task_options, f"--dependency=afterok:{plan}", "--kill-on-invalid-dep=yes"], words)
    report = _sbatch([*options, "--nodes=1", f"--dependency=afterany:{array}"], [*words, "--report"])
    return Jobs(plan, array, report)


def array_text(numbers: Sequence[int]) -> str:
    """Numbers as sbatch's --array takes them: ``0-3,7``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _sbatch(options: Sequence[str], words: Sequence[str]) -> str:
    command = ["sbatch", "--parsable", *options, str(SCRIPT), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as error:
        raise MissingInputError("sbatch is not on this host; submit from a login node of the cluster") from error
    if done.returncode != 0:
        raise SettingError(f"sbatch refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().split(";")[0]
