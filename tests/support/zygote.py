"""A process that imports torch and DeepSpeed once and then forks ranks on request: real processes, no 10-second imports.

It reads pickled requests from standard input and answers on standard output. Nothing runs in it but imports, so that the
forked ranks start without threads or locks of their parent.
"""

import importlib
import os
import pickle
import signal
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def run_rank(request: dict[str, Any], rank: int, port: int) -> None:
    """In the forked child: becomes a rank, runs the target, never returns."""
    folder = Path(request["folder"])
    code = 1
    try:
        os.setsid()
        output = os.open(folder / f"output_{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        size = request["world_size"]
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(size),
            LOCAL_WORLD_SIZE=str(size),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            OMP_NUM_THREADS="1",
            DS_ACCELERATOR="cpu",
        )
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        module, name = request["target"].split(":")
        try:
            result = getattr(importlib.import_module(module), name)(*request["arguments"])
            (folder / f"result_{rank}.pickle").write_bytes(pickle.dumps(result))
            code = 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(bool(leave.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP holds the process: it will not end by itself."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def serve(request: dict[str, Any], port: int) -> list[int | None]:
    """Forks the ranks and waits; returns exit codes (negative: signal; None: killed at the time-out)."""
    pids = []
    for rank in range(request["world_size"]):
        pid = os.fork()
        if pid == 0:
            run_rank(request, rank, port)
        pids.append(pid)
    (Path(request["folder"]) / "pids").write_text(" ".join(map(str, pids)))
    codes: dict[int, int | None] = {}
    give_up_at = time.monotonic() + request["timeout"]
    failed_at: float | None = None
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    if codes[pid] != 0 and failed_at is None:
                        failed_at = time.monotonic()
        late = time.monotonic() > give_up_at
        waited = failed_at is not None and time.monotonic() > failed_at + 20
        if late or waited or (failed_at is not None and all(is_stopped(pid) for pid in pids if pid not in codes)):
            for pid in pids:
                if pid not in codes:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    codes[pid] = None
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def main() -> None:
    channel_in, channel_out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    sys.path[:0] = sys.argv[1:]
    os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    import deepspeed
    import deepspeed.comm.torch
    import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401  # pulls in the compiler stack, as initialize does
    import torch.nn.attention.varlen
    import torch.utils.tensorboard  # noqa: F401

    import zhgpt.cli.rank
    import zhgpt.train.pretrain
    import zhgpt.train.sinks.tensorboard  # noqa: F401
    from zhgpt.distributed.environment import free_port

    while True:
        header = channel_in.read(8)
        if len(header) < 8:
            return
        request = pickle.loads(channel_in.read(struct.unpack("<Q", header)[0]))
        answer = pickle.dumps(serve(request, free_port()))
        channel_out.write(struct.pack("<Q", len(answer)) + answer)
        channel_out.flush()


if __name__ == "__main__":
    main()
