"""The encoding processes of a build: one loads the encoder and forks the workers, each takes units from its socket.

``python -m megatron_style_data.encoding_worker SOCKET...`` gets its job through the first socket.
"""

import gc
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from megatron_style_data.encoding_units import EncodingJob, encode_unit
from megatron_style_data.errors import UserError
from megatron_style_data.tokenizer.fast_encoding import Encoder, FastEncoder

_SECONDS_BETWEEN_WORDS = 0.2
# The encoder's caches grow with what it has seen; a worker that is forked anew has none of that, in a moment.
_BYTES_A_WORKER = 3 << 24
_REPLACE_ME = 3  # exit code


class _Teller:
    """Sends (documents, bytes) now and then; what is left when a unit is done goes with its result."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._told_at = time.monotonic()
        self._documents = self._utf8_bytes = 0

    def __call__(self, documents: int, utf8_bytes: int) -> None:
        self._documents += documents
        self._utf8_bytes += utf8_bytes
        if time.monotonic() - self._told_at >= _SECONDS_BETWEEN_WORDS:
            self._connection.send((self._documents, self._utf8_bytes))
            self._told_at, self._documents, self._utf8_bytes = time.monotonic(), 0, 0


def main(sockets: list[int]) -> int:
    """Loads, forks a worker for each socket, and a new one where it is worn; ends as the first one that does not end well.

    The workers are forked before anything is encoded, as that starts threads.
    """
    with Connection(sockets[0]) as first:
        job = first.recv()
        assert isinstance(job, EncodingJob)
        gc.disable()  # all that is loaded stays
        try:
            encoder: Encoder = job.own_encoder() if job.definition is None else FastEncoder(job.definition)
        except UserError as error:
            first.send(error)
            return 0
        except ValueError as error:  # of fastokens; the tokenizer itself was read well before
            if job.definition is None:
                raise
            first.send(f"fastokens does not read this tokenizer ({error})")
            return 0
        gc.freeze()  # a collection would copy the pages that are shared
        gc.enable()
        alive = {_fork(job, encoder, sockets, number, first=True): number for number in range(len(sockets))}
        while alive:
            process, status = os.wait()
            number = alive.pop(process)
            if os.WIFSIGNALED(status):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), os.WTERMSIG(status))
            if os.waitstatus_to_exitcode(status) == _REPLACE_ME:
                alive[_fork(job, encoder, sockets, number, first=False)] = number
            elif status:
                return os.waitstatus_to_exitcode(status)
    return 0


def _fork(job: EncodingJob, encoder: Encoder, sockets: list[int], number: int, first: bool) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        for other, descriptor in enumerate(sockets):
            if other != number:
                os.close(descriptor)
        with Connection(sockets[number]) as connection:
            finished = serve(connection, job, encoder, proves=first and number == 0)
        code = 0 if finished else _REPLACE_ME
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def serve(connection: "Connection[Any, Any]", job: EncodingJob, encoder: Encoder, proves: bool) -> bool:
    """Does units until the other end closes, or until enough was encoded. A user's error is sent back, to be raised there.

    Returns:
        Whether there is nothing more to do.
    """
    encoded = 0
    try:
        if proves and job.proof is not None:
            different = job.proof.first_difference(encoder)
            connection.send("" if different is None else f"fastokens gives other ids for {different[:40]!r}")
        while encoded < _BYTES_A_WORKER:
            unit = connection.recv()
            done = encode_unit(unit, job, encoder, _Teller(connection))
            encoded += done.unit.utf8_bytes
            connection.send(done)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return True
    except UserError as error:
        connection.send(error)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
