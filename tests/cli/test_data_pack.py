"""``zhgpt data pack`` as a user runs it: a packing, what it says, and training samples that open with it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from synthetic import write_synthetic

from megatron_style_data.sample_source import open_samples


def data_pack(prefix: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "zhgpt.cli.main", "data", "pack", str(prefix), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_pack_says_what_it_made_and_samples_open_with_it(tmp_path: Path) -> None:
    prefix = tmp_path / "web"
    write_synthetic(prefix, 40_000)
    done = data_pack(prefix, "--sequence-length", "128")
    assert done.returncode == 0, done.stderr
    assert f"{prefix}.train-128.packing" in done.stdout
    assert "800 documents of 40,000 tokens in 400 samples of 128 targets; 21.8750% of the places stay" in done.stdout
    samples = open_samples(prefix, sequence_length=128, seed=1, packing="best_fit")
    batch = samples.batch(np.arange(samples.samples_per_epoch))
    assert int(batch.target_mask.sum()) == samples.tokens == samples.targets_in(0, samples.samples_per_epoch)


def test_a_packing_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    prefix = tmp_path / "web"
    write_synthetic(prefix, 4_000)
    assert data_pack(prefix, "--sequence-length", "64").returncode == 0
    again = data_pack(prefix, "--sequence-length", "64")
    assert again.returncode == 74
    assert "exists already; pass --force" in again.stderr


def test_a_dataset_that_is_not_there_ends_with_a_sentence(tmp_path: Path) -> None:
    done = data_pack(tmp_path / "d", "--sequence-length", "8")
    assert done.returncode == 66
    assert "zhgpt data build" in done.stderr
