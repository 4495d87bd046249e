"""Independent jobs on several processes, results in the order of the jobs, nobody left behind.

A worker is ``python -m megatron_style_data.deduplication.worker`` on one end of a socket pair of its own; it ends when
the other end closes, however that comes about. Workers are fresh interpreters: nothing is forked with threads running,
and the caller's main module is not imported again.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from megatron_style_data.errors import SettingError, UserError

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_FAREWELL_SECONDS = 10


def run_jobs(function: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int) -> list[_Result]:
    """The results of ``function`` for all jobs; with one worker or one job in this process.

    Args:
        function: A function of a module, which workers import by its name.
        jobs: What it is called with; travels to a worker pickled.
        workers: Most processes at a time.

    Raises:
        SettingError: workers < 1.
        UserError: A worker was killed, or what the function raises.
    """
    if workers < 1:
        raise SettingError(f"workers {workers}: expected at least 1.")
    if workers == 1 or len(jobs) < 2:
        return [function(job) for job in jobs]
    results: dict[int, _Result] = {}
    with ExitStack() as stack:
        idle = [stack.enter_context(_worker()) for _ in range(min(workers, len(jobs)))]
        busy: dict[Any, tuple[_Worker, int]] = {}
        waiting = iter(enumerate(jobs))
        while len(results) < len(jobs):
            # zip asks for a worker first, so no job is taken that nobody can do.
            for worker, (number, job) in zip(list(idle), waiting, strict=False):
                idle.remove(worker)
                worker.send((function, job))
                busy[worker.connection] = (worker, number)
            for ready in wait(list(busy)):
                worker, number = busy.pop(ready)
                results[number] = worker.receive()
                idle.append(worker)
    return [results[number] for number in range(len(jobs))]


@dataclass(frozen=True, slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: "Connection[Any, Any]"

    def send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._lost() from error

    def receive(self) -> Any:
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._lost() from error
        if isinstance(answer, UserError):
            raise answer
        return answer

    def _lost(self) -> Exception:
        code = self.process.wait(_FAREWELL_SECONDS)
        if code >= 0:  # its traceback is on stderr already
            return RuntimeError(f"a worker ended with exit code {code}")
        return UserError(f"a worker was killed by signal {-code}; if memory ran out, use fewer workers. Start again.")


@contextmanager
def _worker() -> Iterator[_Worker]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            # -P: a file in the working directory must not pass for a library.
            [sys.executable, "-P", "-m", "megatron_style_data.deduplication.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C in a terminal is for the caller, which then closes the sockets
        )
    try:
        with Connection(ours.detach()) as connection:
            yield _Worker(process, connection)
    finally:
        process.terminate()
        try:
            process.wait(_FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
