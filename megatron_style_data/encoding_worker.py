"""One encoding process: takes batches of texts from a socket, sends back their ids, ends when the socket closes."""

import sys
from multiprocessing.connection import Connection
from typing import Any

from megatron_style_data.encoding import encode_texts
from megatron_style_data.encoding_processes import EncodingJob
from megatron_style_data.errors import UserError


def serve(connection: "Connection[Any, Any]") -> None:
    """Answers every batch until the other end closes. An error of the user's is sent back, to be raised there."""
    job = connection.recv()
    assert isinstance(job, EncodingJob)
    try:
        tokenizer = job.load()
        while True:
            texts = connection.recv()
            connection.send(encode_texts(tokenizer, texts, job.dtype, job.seed))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except UserError as error:
        connection.send(error)


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as _connection:
        serve(_connection)
