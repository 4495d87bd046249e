"""Jobs on several processes."""

import operator
import os
import signal
import time

import pytest

from megatron_style_data.deduplication.processes import run_jobs
from megatron_style_data.errors import SettingError, UserError


def test_results_come_in_the_order_of_the_jobs() -> None:
    jobs = [0.2, 0.0, 0.1, 0.0, 0.0]
    assert run_jobs(time.sleep, jobs, 3) == [None] * 5
    assert run_jobs(operator.neg, range(20), 3) == [-number for number in range(20)]


def test_one_worker_is_this_process_and_several_are_others() -> None:
    assert run_jobs(os.getsid, [0, 0], 1) == [os.getsid(0)] * 2
    assert run_jobs(os.getpgid, [0], 4) == [os.getpgid(0)]
    assert os.getpgid(0) not in run_jobs(os.getpgid, [0, 0], 2)


def test_no_workers_are_refused() -> None:
    with pytest.raises(SettingError, match="workers 0: expected at least 1"):
        run_jobs(operator.neg, [1], 0)


def test_a_killed_worker_ends_the_work_with_a_sentence() -> None:
    with pytest.raises(UserError, match="a worker was killed by signal 9; if memory ran out, use fewer workers"):
        run_jobs(signal.raise_signal, [signal.SIGKILL] * 2, 2)


def test_a_fault_in_a_worker_is_no_error_of_the_user() -> None:
    with pytest.raises(RuntimeError, match="a worker ended with exit code 1"):
        run_jobs(int, ["a", "b"], 2)
