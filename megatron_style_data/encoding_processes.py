"""Encoding on several processors: one worker process each, results in the order of the texts, nobody left behind.

A worker is ``python -m megatron_style_data.encoding_worker`` on one end of a socket pair of its own. It ends when the
other end closes, so no worker outlives the build, however that ends (also by kill -9). Workers are fresh interpreters:
nothing is forked with threads running, and the caller's main module is not imported again.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from megatron_style_data.encoding import EncodedTexts, encode_texts
from megatron_style_data.errors import SettingError, UserError
from megatron_style_data.tokenizer import Tokenizer, load_tokenizer

EncodeAll: TypeAlias = Callable[[Iterable[list[str]]], Iterator[EncodedTexts]]

# How many batches may be ahead of the oldest unfinished one: bounds memory when one document takes very long.
_BATCHES_AHEAD_PER_WORKER = 4
_FAREWELL_SECONDS = 10


@dataclass(frozen=True, slots=True)
class EncodingJob:
    """What a worker needs to know; sent to it first."""

    tokenizer_path: str
    end_of_text: str
    fingerprint: str
    dtype: str
    seed: int

    def load(self) -> Tokenizer:
        """The tokenizer, which must still be the one the build began with.

        Raises:
            UserError: Another file lies there now.
        """
        tokenizer = load_tokenizer(self.tokenizer_path, end_of_text=self.end_of_text)
        if tokenizer.fingerprint != self.fingerprint:
            raise UserError(f"{self.tokenizer_path}: the tokenizer changed during the build; start the build again.")
        return tokenizer


@contextmanager
def encoder(job: EncodingJob, workers: int) -> Iterator[EncodeAll]:
    """Yields a function from batches of texts to their encodings, in order; its workers end with the block.

    Args:
        job: What to encode with.
        workers: Processes; with 1 the work is done in this one.

    Raises:
        SettingError: workers < 1.
        UserError: A worker was killed.
    """
    if workers < 1:
        raise SettingError(f"workers {workers}: expected at least 1.")
    if workers == 1:
        tokenizer = job.load()
        yield lambda batches: (encode_texts(tokenizer, texts, job.dtype, job.seed) for texts in batches)
        return
    with ExitStack() as stack:
        crew = [stack.enter_context(_worker(job)) for _ in range(workers)]
        yield lambda batches: _encode_in_order(crew, batches)


@dataclass(frozen=True, slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: "Connection[Any, Any]"


@contextmanager
def _worker(job: EncodingJob) -> Iterator[_Worker]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            # -P: a file in the working directory must not pass for a library.
            [sys.executable, "-P", "-m", "megatron_style_data.encoding_worker", str(theirs.fileno())],
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


def _encode_in_order(crew: list[_Worker], batches: Iterable[list[str]]) -> Iterator[EncodedTexts]:
    """Gives each idle worker the next batch and yields the results by number."""
    # A worker holds one batch at a time: with more, both sides could wait for the other to read.
    numbered = enumerate(batches)
    idle, busy = list(crew), dict[Any, tuple[_Worker, int]]()
    finished: dict[int, EncodedTexts] = {}
    next_out, next_in, more = 0, 0, True
    while more or busy or finished:
        while more and idle and next_in - next_out < _BATCHES_AHEAD_PER_WORKER * len(crew):
            item = next(numbered, None)
            if item is None:
                more = False
                break
            next_in = item[0] + 1
            worker = idle.pop()
            _send(worker, item[1])
            busy[worker.connection] = (worker, item[0])
        for ready in wait(list(busy)) if busy else []:
            worker, number = busy.pop(ready)
            finished[number] = _receive(worker)
            idle.append(worker)
        while next_out in finished:
            yield finished.pop(next_out)
            next_out += 1


def _send(worker: _Worker, texts: list[str]) -> None:
    try:
        worker.connection.send(texts)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _lost(worker) from error


def _receive(worker: _Worker) -> EncodedTexts:
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionResetError) as error:
        raise _lost(worker) from error
    if isinstance(answer, UserError):
        raise answer
    assert isinstance(answer, EncodedTexts)
    return answer


def _lost(worker: _Worker) -> Exception:
    code = worker.process.wait(_FAREWELL_SECONDS)
    if code >= 0:
        return RuntimeError(f"worker process {worker.process.pid} left with code {code}; its traceback is above")
    return UserError(
        f"worker process {worker.process.pid} was ended by {signal.Signals(-code).name} while encoding; if the machine "
        "ran out of memory, use fewer --workers. The same command goes on where this one stopped."
    )
