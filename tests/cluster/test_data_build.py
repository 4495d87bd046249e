"""A dataset built as a Slurm array on two nodes has the bytes of one built here."""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import ROOT

from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.tokenizer import train_bpe

pytestmark = pytest.mark.cluster

TEXTS = [f"第{number}篇。" + "村民们都很高兴，在田里唱歌。国家保护公民的权利。" * 400 for number in range(800)]
SUFFIXES = (".bin", ".idx", ".meta.json")


def test_an_array_of_shares_and_the_task_after_it_give_the_bytes_of_one_build(cluster: Any, tmp_path: Path) -> None:
    with open(tmp_path / "corpus.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS)
    train_bpe(TEXTS[:20], 350, tmp_path / "tokenizer")
    words = ["--input", str(tmp_path / "corpus.jsonl"), "--tokenizer", str(tmp_path / "tokenizer")]
    script = ["bash", str(ROOT / "slurm" / "data_build.sbatch"), "--tasks", "3", "--"]
    command = [*script, *words, "--output", str(tmp_path / "array"), "--workers", "1"]
    done = cluster.run("head", *command, cwd=tmp_path, settings={"VENV": sys.prefix})
    numbers = re.fullmatch(r"shares: job (\d+) \(1-3\); together: job (\d+)\n", done.stdout)
    assert numbers is not None, done.stdout
    state = wait(cluster, numbers[2])
    assert "JobState=COMPLETED" in state, state + "".join(log.read_text() for log in tmp_path.glob("slurm-*.log"))
    build(BuildSettings([words[1]], words[3], tmp_path / "here"))
    for suffix in SUFFIXES:
        assert Path(f"{tmp_path}/array{suffix}").read_bytes() == Path(f"{tmp_path}/here{suffix}").read_bytes()


def wait(cluster: Any, job: str) -> str:
    """What Slurm says of a job once it has ended."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        state: str = cluster.run("head", "scontrol", "-o", "show", "job", job).stdout
        if re.search("JobState=(COMPLETED|FAILED|CANCELLED)", state):
            return state
        time.sleep(0.5)
    cluster.run("head", "scancel", job, check=False)
    return state
