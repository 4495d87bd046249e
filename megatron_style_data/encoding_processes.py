"""Encoding on several processors: one worker process each, which reads, encodes and writes whole units by itself.

``python -m megatron_style_data.encoding_worker`` loads the encoder and forks the workers, so that all of them have it for
the memory of one; it is a fresh interpreter, and has no threads when it forks. Each worker holds one end of a socket pair
of its own and ends when the other end closes, so none outlives the build, however that ends (also by kill -9).
"""

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from megatron_style_data.build_plan import Unit
from megatron_style_data.encoding_units import EncodingJob, UnitDone, encode_unit
from megatron_style_data.errors import UserError

_PROGRAM = ("-m", f"{__package__}.encoding_worker")
_GRACE_SECONDS = 1
_FAREWELL_SECONDS = 10
# Workers are the parallelism: libraries in them shall start no threads.
_ONE_THREAD = (
    "FASTOKENS_BPE_THREADS=1",
    # Blocks larger than this go back to the system when they are freed: few documents are long.
    "MALLOC_MMAP_THRESHOLD_=1048576",
    "RAYON_NUM_THREADS=1",
    "OMP_NUM_THREADS=1",
    "OPENBLAS_NUM_THREADS=1",
    "TOKENIZERS_PARALLELISM=false",
)


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


@dataclass(frozen=True, slots=True)
class Crew:
    """Those who encode: workers, or this process where there are none.

    Attributes:
        encoder: What they encode with, and why, in words.
        job: What they were told.
        workers: The processes.
    """

    encoder: str
    job: EncodingJob
    workers: "list[_Worker]"

    def encode(self, units: Sequence[Unit]) -> Iterator[tuple[int, Done]]:
        """Brings units to the disk and yields (number of the unit, what was done), in any order.

        Raises:
            UserError: A worker was killed, or what ``encode_unit`` raises.
        """
        if self.workers:
            yield from _distribute(self.workers, units)
            return
        encoder = self.job.own_encoder()
        for unit in units:
            done = encode_unit(unit, self.job, encoder)
            yield unit.number, Done(done.unit.documents, done.unit.utf8_bytes, done)


@contextmanager
def encoding_crew(job: EncodingJob, workers: int, why_slow: str = "") -> Iterator[Crew]:
    """Starts the workers, which end with the block; one of them proves the fast encoder before it is used.

    Args:
        job: What to do; without a definition the tokenizer itself encodes.
        workers: Processes; with 0 the work is done in this one.
        why_slow: Why there is no definition.

    Raises:
        UserError: A worker was killed.
    """
    if workers == 0:
        yield Crew(f"the tokenizer itself, as {why_slow}", job, [])
        return
    if job.definition is not None and job.proof is not None:
        with _worker_processes(job, workers) as started:
            why_slow = _receive_proof(started[0])
            if not why_slow:
                version, texts = importlib.metadata.version("fastokens"), len(job.proof.texts)
                yield Crew(f"fastokens {version}, with the tokenizer's ids on {texts} texts at start", job, started)
                return
    job = replace(job, definition=None, proof=None)
    with _worker_processes(job, workers) as started:
        yield Crew(f"the tokenizer itself, as {why_slow}", job, started)


@dataclass(slots=True, eq=False)
class _Worker:
    host: subprocess.Popen[bytes]
    connection: "Connection[Any, Any]"
    unit: int = -1
    documents: int = 0
    utf8_bytes: int = 0


@contextmanager
def _worker_processes(job: EncodingJob, number: int) -> Iterator[list[_Worker]]:
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(number)]
        theirs = [their_end for _, their_end in pairs]
        host = subprocess.Popen(
            # -P: a file in the working directory must not pass for a library.
            ["env", *_ONE_THREAD, sys.executable, "-P", *_PROGRAM,
             *(str(their_end.fileno()) for their_end in theirs)],
            stdin=subprocess.DEVNULL,
            pass_fds=[their_end.fileno() for their_end in theirs],
            # Ctrl-C in a terminal is for the build, which then closes the sockets.
            process_group=0,
        )  # fmt: skip
        stack.callback(_end, host)
        for their_end in theirs:
            their_end.close()
        connections = [stack.enter_context(Connection(our_end.detach())) for our_end, _ in pairs]
        workers = [_Worker(host, connection) for connection in connections]
        _send(workers[0], job)
        yield workers


def _end(host: subprocess.Popen[bytes]) -> None:
    """Ends the host and its workers, which are its process group. They leave by themselves where they are idle."""
    with suppress(subprocess.TimeoutExpired):
        host.wait(_GRACE_SECONDS)
        return
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(host.pid, ending)
        with suppress(subprocess.TimeoutExpired):
            host.wait(_FAREWELL_SECONDS)
            return
    host.wait()


def _receive_proof(worker: _Worker) -> str:
    """Empty if the fast encoder passed, else why not."""
    answer = _receive(worker)
    assert isinstance(answer, str)
    return answer


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
            answer = _receive(worker)
            assert not isinstance(answer, str)
            number, done = worker.unit, _step(worker, answer)
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


def _send(worker: _Worker, message: Unit | EncodingJob) -> None:
    try:
        worker.connection.send(message)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _lost(worker) from error


def _receive(worker: _Worker) -> UnitDone | tuple[int, int] | str:
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionResetError) as error:
        raise _lost(worker) from error
    if isinstance(answer, UserError):
        raise answer
    assert isinstance(answer, (UnitDone, tuple, str))
    return answer


def _lost(worker: _Worker) -> Exception:
    """What became of a worker that fell silent: its host ends with it, in the same way."""
    code = worker.host.wait(_FAREWELL_SECONDS)
    if code >= 0:
        return RuntimeError(f"a worker of process {worker.host.pid} left with code {code}; its traceback is above")
    return UserError(
        f"a worker of process {worker.host.pid} was ended by {signal.Signals(-code).name} while encoding; if the machine "
        "ran out of memory, use fewer --workers. The same command goes on where this one stopped."
    )
