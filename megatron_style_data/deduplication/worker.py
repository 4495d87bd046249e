"""One worker process: takes (function, job) from a socket, sends back the result, ends when the socket closes."""

import sys
from multiprocessing.connection import Connection
from typing import Any

from megatron_style_data.errors import UserError


def serve(connection: "Connection[Any, Any]") -> None:
    """Does every job until the other end closes. An error of the user's is sent back, to be raised there."""
    try:
        while True:
            function, job = connection.recv()
            try:
                connection.send(function(job))
            except UserError as error:
                connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as _connection:
        serve(_connection)
