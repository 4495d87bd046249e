"""Both starts over two hosts give the losses of a one-host run of the same global batch; too few hosts are refused."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from commands import zhgpt
from tiny import ROOT, Tiny, losses

pytestmark = pytest.mark.cluster

# Eight sequences a step on every world size: two ranks accumulate two micro batches, four ranks none.
MICRO_BATCH = "train.micro_batch_size=2"


@pytest.fixture(scope="module")
def one_host_losses(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    run_dir = tmp_path_factory.mktemp("one-host") / "run"
    zhgpt("pretrain", "--num-processes", "1", *tiny.argv(run_dir, MICRO_BATCH))
    return losses(run_dir)


def test_sbatch_on_two_nodes_gives_the_losses_of_one_host(
    cluster: Any, tiny: Tiny, tmp_path: Path, one_host_losses: list[float]
) -> None:
    run_dir = tmp_path / "run"
    job = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", MICRO_BATCH, "launch.world_size=4", processes=2)
    fields = job.wait()
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), job.text()
    assert losses(run_dir) == pytest.approx(one_host_losses, abs=1e-5)
    assert cluster.run_file(run_dir, "environment.json")["hosts"] == 2


def test_deepspeed_over_ssh_gives_the_losses_of_one_host(
    cluster: Any, tiny: Tiny, tmp_path: Path, hosts_file: Path, one_host_losses: list[float]
) -> None:
    run_dir = tmp_path / "run"
    argv = tiny.argv(run_dir, MICRO_BATCH, "launch.hosts=2", "launch.world_size=2")
    cluster.deepspeed(hosts_file.parent, ["--hostfile", str(hosts_file)], argv)
    assert losses(run_dir) == pytest.approx(one_host_losses, abs=1e-5)
    assert cluster.run_file(run_dir, "environment.json")["hosts"] == 2


def test_srun_with_one_task_a_rank_gives_the_losses_of_one_host(
    cluster: Any, tiny: Tiny, tmp_path: Path, one_host_losses: list[float]
) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, str(ROOT / "launch" / "pretrain.py"), *tiny.argv(run_dir, MICRO_BATCH)]
    cluster.run("head", "srun", "--nodes=2", "--ntasks-per-node=1", *command, timeout=180)
    assert losses(run_dir) == pytest.approx(one_host_losses, abs=1e-5)
    assert cluster.run_file(run_dir, "environment.json")["hosts"] == 2


def test_the_command_on_each_host_by_hand_gives_the_losses_of_one_host(
    cluster: Any, tiny: Tiny, tmp_path: Path, one_host_losses: list[float]
) -> None:
    run_dir = tmp_path / "run"
    meeting = ["--hosts", "2", "--master-address", "node1", "--master-port", "23456", "--num-processes", "1"]
    command = [str(Path(sys.prefix) / "bin" / "zhgpt"), "pretrain", *meeting, *tiny.argv(run_dir, MICRO_BATCH)]

    def start(rank: int) -> None:
        cluster.run(f"node{rank + 1}", *command, "--host-rank", str(rank), timeout=180)

    with ThreadPoolExecutor() as threads:
        list(threads.map(start, (0, 1)))
    assert losses(run_dir) == pytest.approx(one_host_losses, abs=1e-5)


def test_a_missing_host_file_is_refused_before_anything_is_built(
    cluster: Any, tiny: Tiny, tmp_path: Path, hosts_file: Path
) -> None:
    run_dir = tmp_path / "run"
    options = ["--hostfile", str(tmp_path / "absent"), "--num_gpus", "2"]
    done = cluster.deepspeed(hosts_file.parent, options, tiny.argv(run_dir, "launch.hosts=2"), check=False)
    assert done.returncode == 2
    assert "2 hosts were asked for, but the 2 ranks run on 1: node1" in done.stderr
    assert not (run_dir / "environment.json").exists()


def test_a_job_on_fewer_hosts_than_asked_for_ends_with_the_code_for_settings(
    cluster: Any, tiny: Tiny, tmp_path: Path
) -> None:
    job = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={tmp_path / 'run'}", "launch.hosts=3")
    assert job.wait()["ExitCode"] == "2:0", job.text()
    assert "3 hosts were asked for, but the 2 ranks run on 2: node1, node2" in job.text()


def test_a_recipe_that_is_not_there_is_named_before_anything_starts(cluster: Any, tmp_path: Path) -> None:
    job = cluster.submit(tmp_path / "absent.yaml", tmp_path, "run.name=a")
    assert job.wait()["ExitCode"] == "66:0", job.text()
    assert f"CONFIG={tmp_path}/absent.yaml is no file" in job.text()
