"""Runs any function on N real ranks, forked from a process that has the slow imports behind it."""

import os
import pickle
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Outcome:
    """What one rank left behind."""

    code: int | None
    """Exit code; negative for a signal, None when it was still running at the time-out."""
    result: Any
    output: str


class Ranks:
    """A zygote process and the means to ask it for ranks; one for a whole test session."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py"), str(HERE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(
        self,
        target: str,
        *arguments: Any,
        world_size: int = 2,
        timeout: float = 120.0,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> list[Outcome]:
        """Calls ``module:function`` with ``arguments`` on every rank and waits for all of them.

        Args:
            target: importable from ``tests/support`` or an installed package.
            world_size: number of ranks.
            timeout: seconds after which all ranks are killed.
            cwd: working directory of the ranks.
            environment: variables on top of the launcher's.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            request = pickle.dumps(
                {
                    "target": target,
                    "arguments": arguments,
                    "world_size": world_size,
                    "timeout": timeout,
                    "folder": folder,
                    "cwd": str(cwd or os.getcwd()),
                    "environment": environment or {},
                }
            )
            self._process.stdin.write(struct.pack("<Q", len(request)) + request)
            self._process.stdin.flush()
            (size,) = struct.unpack("<Q", self._process.stdout.read(8))
            codes = pickle.loads(self._process.stdout.read(size))
            outcomes = []
            for rank, code in enumerate(codes):
                result = Path(folder) / f"result_{rank}.pickle"
                output = Path(folder) / f"output_{rank}.txt"
                outcomes.append(
                    Outcome(
                        code,
                        pickle.loads(result.read_bytes()) if result.exists() else None,
                        output.read_text(errors="replace") if output.exists() else "",
                    )
                )
            return outcomes

    def results(self, target: str, *arguments: Any, **options: Any) -> list[Any]:
        """Like :meth:`run`, but every rank must succeed; returns their results."""
        outcomes = self.run(target, *arguments, **options)
        for rank, outcome in enumerate(outcomes):
            assert outcome.code == 0, f"rank {rank} ended with {outcome.code}:\n{outcome.output[-4000:]}"
        return [outcome.result for outcome in outcomes]

    def close(self) -> None:
        """Ends the zygote."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
