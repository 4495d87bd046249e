"""One encoding process: takes units from a socket, says what it has done of them, ends when the socket closes."""

import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from megatron_style_data.encoding_units import EncodingJob, encode_unit
from megatron_style_data.errors import UserError

_SECONDS_BETWEEN_WORDS = 0.2


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


def serve(connection: "Connection[Any, Any]") -> None:
    """Does every unit until the other end closes. An error of the user's is sent back, to be raised there."""
    try:
        job = connection.recv()
        assert isinstance(job, EncodingJob)
        encoder = job.encoder()
        while True:
            unit = connection.recv()
            connection.send(encode_unit(unit, job, encoder, _Teller(connection)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except UserError as error:
        connection.send(error)


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as _connection:
        serve(_connection)
