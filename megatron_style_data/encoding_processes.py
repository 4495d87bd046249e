"""Encoding on several processors: one worker process each, which reads, encodes and writes whole units by itself.

A worker is ``python -m megatron_style_data.encoding_worker`` on one end of a socket pair of its own. It ends when the
other end closes, so no worker outlives the build, however that ends (also by kill -9). Workers are fresh interpreters:
nothing is forked with threads running, and the caller's main module is not imported again.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from megatron_style_data.build_plan import Unit
from megatron_style_data.encoding_units import EncodingJob, UnitDone, encode_unit
from megatron_style_data.errors import SettingError, UserError

_FAREWELL_SECONDS = 10
# Workers are the parallelism: libraries in them shall start no threads.
_ONE_THREAD = ("RAYON_NUM_THREADS=1", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "TOKENIZERS_PARALLELISM=false")


@dataclass(frozen=True, slots=True)
class Done:
    """A step forward: documents encoded since the last one, and the unit that is finished with them, if any.

    Attributes:
        documents: How many.
        utf8_bytes: Bytes of their texts.
        unit: The unit's result where it is finished now.
    """

    documents: int
    utf8_bytes: int
    unit: UnitDone | None = None


def encode_units(job: EncodingJob, units: Sequence[Unit], workers: int) -> Iterator[tuple[int, Done]]:
    """Brings units to the disk and yields (number of the unit, what was done), in any order; the workers end with the iterator.

    Args:
        job: How.
        units: What.
        workers: Processes; with 0 the work is done in this one.

    Raises:
        SettingError: workers < 0.
        UserError: A worker was killed, or what ``encode_unit`` raises.
    """
    if workers < 0:
        raise SettingError(f"workers {workers}: expected at least 1.")
    if workers == 0:
        encoder = job.encoder()
        for unit in units:
            done = encode_unit(unit, job, encoder)
            yield unit.number, Done(done.unit.documents, done.unit.utf8_bytes, done)
        return
    with ExitStack() as stack:
        crew = [stack.enter_context(_worker(job)) for _ in range(min(workers, len(units)))]
        yield from _distribute(crew, units)


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: "Connection[Any, Any]"
    unit: int = -1
    documents: int = 0
    utf8_bytes: int = 0


@contextmanager
def _worker(job: EncodingJob) -> Iterator[_Worker]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            # -P: a file in the working directory must not pass for a library.
            ["env", *_ONE_THREAD, sys.executable, "-P", "-m", f"{__package__}.encoding_worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # Ctrl-C in a terminal is for the build, which then closes the sockets.
            process_group=0,
        )
    try:
        with Connection(ours.detach()) as connection:
            connection.send(job)
            yield _Worker(process, connection)
    finally:
        process.terminate()
        try:
            process.wait(_FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _distribute(crew: list[_Worker], units: Sequence[Unit]) -> Iterator[tuple[int, Done]]:
    """Gives each idle worker the next unit; a worker holds one at a time."""
    waiting = iter(units)
    busy: dict[Any, _Worker] = {}

    def employ(worker: _Worker) -> None:
        unit = next(waiting, None)
        if unit is not None:
            _send(worker, unit)
            worker.unit = unit.number
            busy[worker.connection] = worker

    for worker in crew:
        employ(worker)
    while busy:
        for ready in wait(list(busy)):
            worker = busy[ready]
            number, done = worker.unit, _step(worker, _receive(worker))
            if done.unit is not None:
                del busy[ready]
                employ(worker)
            yield number, done


def _step(worker: _Worker, answer: UnitDone | tuple[int, int]) -> Done:
    if isinstance(answer, tuple):
        worker.documents += answer[0]
        worker.utf8_bytes += answer[1]
        return Done(*answer)
    done = Done(answer.unit.documents - worker.documents, answer.unit.utf8_bytes - worker.utf8_bytes, answer)
    worker.documents = worker.utf8_bytes = 0
    return done


def _send(worker: _Worker, unit: Unit) -> None:
    try:
        worker.connection.send(unit)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _lost(worker) from error


def _receive(worker: _Worker) -> UnitDone | tuple[int, int]:
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionResetError) as error:
        raise _lost(worker) from error
    if isinstance(answer, UserError):
        raise answer
    assert isinstance(answer, (UnitDone, tuple))
    return answer


def _lost(worker: _Worker) -> Exception:
    code = worker.process.wait(_FAREWELL_SECONDS)
    if code >= 0:
        return RuntimeError(f"worker process {worker.process.pid} left with code {code}; its traceback is above")
    return UserError(
        f"worker process {worker.process.pid} was ended by {signal.Signals(-code).name} while encoding; if the machine "
        "ran out of memory, use fewer --workers. The same command goes on where this one stopped."
    )
