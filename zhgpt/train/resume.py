"""Where a start goes on from: what ``--resume`` says, and what it means once Slurm has started the same job again."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zhgpt.checkpoint.layout import find_checkpoint, list_complete
from zhgpt.distributed.environment import SlurmJob
from zhgpt.errors import SettingError, UserError
from zhgpt.train.run_folder import RunFolder


@dataclass(frozen=True)
class Resume:
    """What counts for this start."""

    mode: str
    """``auto``, ``never``, or the path of a checkpoint or a run."""
    notice: str | None = None
    """What the user should know where this is not what the command line says."""


def resume_of_start(folder: RunFolder, asked: str, job: SlurmJob | None) -> Resume:
    """``--resume``, or ``auto`` where an earlier start of the same job has obeyed it already.

    A requeued job starts with the words it was submitted with. ``never`` would refuse the job's own run, and a path would
    begin at that checkpoint again and again. An earlier start of this job counts only if it has begun the run (it has
    cleared the folder then, and ``environment.json`` names the job): what else lies there is not this job's.

    Args:
        folder: the run's.
        asked: ``--resume`` on the command line.
        job: from :func:`zhgpt.distributed.environment.read_slurm_job`.
    """
    if asked == "auto" or job is None or job.restarts == 0 or not began_here(folder, job):
        return Resume(asked)
    if asked != "never" and not has_reached(folder, Path(asked)):
        return Resume(asked)
    return Resume(
        "auto",
        f"Slurm has started job {job.number} again (start {job.restarts + 1}): --resume {asked} counted for its first start; "
        "this one goes on from this run's newest complete checkpoint",
    )


def began_here(folder: RunFolder, job: SlurmJob) -> bool:
    """Whether the run in this folder was last begun by this job."""
    with suppress(OSError, ValueError):
        return bool(json.loads(folder.environment.read_text(encoding="utf-8")).get("slurm_job") == job.number)
    return False


def has_reached(folder: RunFolder, path: Path) -> bool:
    """Whether the run's own newest checkpoint is not before the one at ``path``, or that one is gone by now."""
    own = list_complete(folder.checkpoints)
    try:
        return bool(own) and own[-1].step >= find_checkpoint(path).step
    except UserError:
        return True


def check_resume_never(folder: RunFolder, resume: str) -> None:
    """``--resume never`` refuses a folder with a run in it, so that nothing is overwritten."""
    if resume == "never" and folder.has_run():
        raise SettingError(
            f"{folder.path} holds a run already and --resume is never; choose another run.dir, or continue with --resume auto"
        )
