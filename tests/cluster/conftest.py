"""The test cluster as a fixture: two nodes with Slurm and ssh, up once a session and down again however it ends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tiny import ROOT

HERE = Path(__file__).resolve().parent
SBATCH = ROOT / "slurm" / "pretrain.sbatch"
START_SECONDS = 120.0

Finished = subprocess.CompletedProcess[str]


def environment(**settings: str) -> dict[str, str]:
    """What a user has on the login node: this Python environment first on PATH, one thread a rank."""
    path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **settings}


@dataclass
class Job:
    """A Slurm job; its state comes from `scontrol show job`."""

    cluster: "Cluster"
    number: str
    log: Path

    def fields(self) -> dict[str, str]:
        text = self.cluster.run("head", "scontrol", "-o", "show", "job", self.number).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def wait(self, timeout: float = START_SECONDS) -> dict[str, str]:
        """Waits until the job has ended and gives its fields; a job that does not end is a failed test with its log."""
        return self.wait_until(lambda fields: fields["JobState"] in {"COMPLETED", "FAILED", "CANCELLED"}, timeout)

    def wait_until(self, condition: Callable[[dict[str, str]], bool], timeout: float = START_SECONDS) -> dict[str, str]:
        end = time.monotonic() + timeout
        while not condition(fields := self.fields()):
            if time.monotonic() > end:
                pytest.fail(f"after {timeout:.0f} s job {self.number} is {fields['JobState']}:\n{self.text()}")
            time.sleep(0.5)
        return fields

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else "(no log)"


@dataclass
class Cluster:
    """The running cluster; ``run`` executes a command on one of its hosts."""

    state: Path
    jobs: list[Job] = field(default_factory=list)

    def script(self, *words: str, timeout: float = 120) -> Finished:
        settings = {"ZHGPT_CLUSTER_DIR": str(self.state), "ZHGPT_CLUSTER_OWNER": str(os.getpid())}
        command = [str(HERE / "cluster.sh"), *words]
        return subprocess.run(
            command, env=environment(**settings), capture_output=True, text=True, timeout=timeout, check=False
        )

    def run(
        self,
        host: str,
        *command: str,
        cwd: Path | None = None,
        timeout: float = 120,
        check: bool = True,
        settings: dict[str, str] | None = None,
    ) -> Finished:
        """Runs a command on a host with more environment variables; with ``check`` its failure fails the test."""
        done = subprocess.run(
            [str(HERE / "cluster.sh"), "exec", host, *command],
            cwd=cwd,
            env=environment(**(settings or {}), ZHGPT_CLUSTER_DIR=str(self.state)),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def submit(
        self,
        config: Path,
        folder: Path,
        *overrides: str,
        processes: int = 1,
        requeue: bool = False,
        options: tuple[str, ...] = (),
    ) -> Job:
        """`sbatch slurm/pretrain.sbatch` on two nodes, as a user submits it; the job's log lies in ``folder``."""
        settings = {
            "CONFIG": str(config),
            "DEEPSPEED_CONFIG": str(ROOT / "ds_configs" / "zero1.json"),
            "VENV": sys.prefix,
            "NUM_PROCESSES": str(processes),
            "REQUEUE": str(int(requeue)),
        }
        words = ["--parsable", "--nodes=2", f"--cpus-per-task={processes}", f"--output={folder}/job-%j.log", *options]
        done = self.run("head", "sbatch", *words, str(SBATCH), *overrides, cwd=folder, settings=settings)
        number = done.stdout.strip()
        job = Job(self, number, folder / f"job-{number}.log")
        self.jobs.append(job)
        return job

    def deepspeed(self, folder: Path, options: list[str], argv: list[str], *, check: bool = True) -> Finished:
        """Starts launch/pretrain.py on the first node, as a user does who is logged in there, in ``folder``."""
        command = [str(Path(sys.prefix) / "bin" / "deepspeed"), *options, str(ROOT / "launch" / "pretrain.py"), *argv]
        return self.run("node1", *command, cwd=folder, timeout=180, check=check)

    def run_file(self, run_dir: Path, name: str) -> dict[str, Any]:
        """One of the JSON files in a run's folder."""
        content: dict[str, Any] = json.loads((run_dir / name).read_text())
        return content

    def cancel_all(self) -> None:
        """Ends what a failed test left running."""
        if self.jobs:
            self.run("head", "scancel", *(job.number for job in self.jobs), check=False)
        self.jobs.clear()


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster") / "state")
    up = cluster.script("up", "2")
    if up.returncode != 0:
        pytest.fail(f"the cluster did not come up:\n{up.stderr}", pytrace=False)
    try:
        yield cluster
    finally:
        cluster.script("down")


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with no job of an earlier test on it."""
    yield running_cluster
    running_cluster.cancel_all()


@pytest.fixture
def hosts_file(tmp_path: Path) -> Path:
    """A folder to start `deepspeed` in: the host file of launch/hosts.example, one slot a node, and .deepspeed_env."""
    folder = tmp_path / "start"
    folder.mkdir()
    example = (ROOT / "launch" / "hosts.example").read_text()
    (folder / "hosts").write_text(example.replace("slots=8", "slots=1"))
    bin_folder = Path(sys.prefix) / "bin"
    lines = [f"PATH={bin_folder}:/usr/local/bin:/usr/bin:/bin", "OMP_NUM_THREADS=1"]
    (folder / ".deepspeed_env").write_text("\n".join(lines) + "\n")
    return folder / "hosts"
