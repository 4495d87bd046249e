"""The zhgpt command as a user runs it."""

import subprocess
import sys


def zhgpt(*words: object, code: int = 0, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Runs the zhgpt command as a user does, and checks its exit code."""
    command = [sys.executable, "-m", "zhgpt.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    return done
