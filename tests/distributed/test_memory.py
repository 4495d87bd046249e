"""The allocator keeps what is freed: the second time, a large tensor costs no page faults."""

import subprocess
import sys

PROGRAM = """
import resource, sys, torch
from zhgpt.distributed.memory import keep_freed_memory
assert keep_freed_memory("cuda") is False
if sys.argv[1] == "keep":
    assert keep_freed_memory("cpu")
for _ in range(3):
    torch.ones(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(choice: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, choice], capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


def test_a_large_tensor_made_again_costs_few_page_faults() -> None:
    assert page_faults("keep") < 0.75 * page_faults("give back")
