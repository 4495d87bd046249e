"""A deduplication over two hosts by datatrove's Slurm executor gives the files of one on this machine."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_up_chinese import written_shards
from tiny import ROOT

from megatron_style_data.deduplication import CleanShard, DuplicateSettings
from megatron_style_data.deduplication.output import deduplicate

pytestmark = pytest.mark.cluster

SUBMIT = """
import sys
from pathlib import Path
from megatron_style_data.deduplication import CleanShard, DuplicateSettings
from megatron_style_data.deduplication.pipelines import Deduplication, submit_to_slurm

folder = Path(sys.argv[1])
shards = [CleanShard(path) for path in sorted(folder.glob("*.jsonl.zst"))]
work = Deduplication(shards, DuplicateSettings(), folder / "work", folder / "output")
path = f'export PATH="{Path(sys.executable).parent}:$PATH"'
print(*submit_to_slurm(work, time="00:10:00", partition=sys.argv[2], qos="", mem_per_cpu_gb=1, env_command=path))
"""


def test_slurm_on_two_hosts_writes_what_one_machine_writes(cluster: Any, tmp_path: Path) -> None:
    shards = [CleanShard(path) for path in written_shards(tmp_path, 4)]
    deduplicate(shards, DuplicateSettings(), tmp_path / "alone")
    partition = cluster.run("head", "sinfo", "--noheader", "--format=%R").stdout.split()[0]
    submitted = cluster.run("head", sys.executable, "-c", SUBMIT, str(tmp_path), partition, cwd=ROOT)
    assert len(submitted.stdout.split()[-4:]) == 4
    finished = tmp_path / "output" / "deduplication.json"
    until = time.monotonic() + 180
    while not finished.exists():
        logs = "\n".join(path.read_text() for path in tmp_path.glob("work/logs/*/slurm_logs/*.out"))
        assert time.monotonic() < until, logs
        time.sleep(1)
    assert content(tmp_path / "output") == content(tmp_path / "alone")
    assert json.loads(finished.read_text())["counts"]["near"] > 20


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
