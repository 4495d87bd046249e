"""One `zhgpt pretrain` as a child process: its log, its memory limit, the signals handed to it, its honest exit code."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from zhgpt.errors import SettingError, StorageError
from zhgpt.train.arguments import PretrainArguments

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@dataclass
class Interruption:
    """Remembers a stop signal and hands it to the run that is on, which saves and leaves with 75."""

    received: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    through_srun: bool = False

    @contextmanager
    def listening(self) -> Iterator["Interruption"]:
        """Handles the stop signals while the block runs."""
        previous = {number: signal.signal(number, self._stop) for number in STOP_SIGNALS}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.received = self.received or number
        if self.process is not None and self.process.poll() is None:
            # srun kills its tasks when it gets SIGTERM, and hands SIGUSR1 on.
            self.process.send_signal(signal.SIGUSR1 if self.through_srun else number)


@dataclass(frozen=True)
class Place:
    """How a run is started.

    Attributes:
        processes: ranks a host.
        hosts: more than 1: with srun, which starts one launcher a host.
        memory_limit_bytes: of each process (RLIMIT_DATA: private memory it may write).
    """

    processes: int
    hosts: int = 1
    memory_limit_bytes: int | None = None


def check_place(place: Place, in_slurm_job: bool) -> None:
    """Refuses several hosts where nobody can start a launcher on each.

    Raises:
        SettingError: hosts is more than 1 outside a Slurm job.
    """
    if place.hosts > 1 and not in_slurm_job:
        raise SettingError(f"hosts is {place.hosts}: several hosts a run need Slurm; add --slurm, or set hosts to 1")


def run_pretrain(
    arguments: PretrainArguments, place: Place, log: Path, interruption: Interruption, lock: int | None = None
) -> int:
    """Runs one training to its end.

    Args:
        arguments: its command line.
        place: how it is started.
        log: gets what it prints, after what is there.
        interruption: who hands signals on.
        lock: descriptor of a lock that the child holds, too.

    Returns:
        Its exit code; 128 + n where signal n ended the launcher itself.

    Raises:
        StorageError: the log cannot be written.
    """
    command = [sys.executable, "-m", "zhgpt.cli.main", "pretrain", *arguments.to_argv()]
    command += ["--num-processes", str(place.processes)]
    if place.hosts > 1:
        count = str(place.hosts)
        # As slurm/pretrain.sbatch: launchers that leave with 75 do not leave in the same instant.
        srun = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
        command = [*srun, "--wait=60", *command]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the sweep alone, which passes it on once.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
                preexec_fn=_limit(place.memory_limit_bytes),
            )
    except OSError as error:
        raise StorageError(f"{log}: the run cannot be started or its log not written: {error.strerror}") from error
    interruption.process, interruption.through_srun = process, place.hosts > 1
    if interruption.received:  # it came between two runs
        process.send_signal(signal.SIGUSR1)
    code = process.wait()
    interruption.process = None
    return code if code >= 0 else 128 - code


def _limit(memory_bytes: int | None) -> Callable[[], None] | None:
    if memory_bytes is None:
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a log, for the reason of a run that could not say one itself."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said: Sequence[str] = [line for line in lines if line.strip()][-count:]
    return " ".join(line.strip() for line in said)[-400:]
