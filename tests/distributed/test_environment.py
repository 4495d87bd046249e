"""Who a process is, as each launcher tells it."""

import os
import socket
from pathlib import Path

import pytest

from zhgpt.distributed import environment
from zhgpt.distributed.environment import (
    PORTS,
    first_slurm_host,
    free_port,
    keep_inductor_results,
    read_rank_environment,
    read_slurm_host_place,
    slurm_port,
)
from zhgpt.errors import SettingError

TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "12345",
    "TORCHELASTIC_RUN_ID": "none",
    "GROUP_WORLD_SIZE": "2",
}
SLURM_STEP = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-05,9]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
}


def test_torchrun_says_rank_and_hosts() -> None:
    found = read_rank_environment(TORCHRUN)
    assert (found.launcher, found.rank, found.local_rank, found.world_size, found.local_world_size) == (
        "torchrun",
        3,
        1,
        4,
        2,
    )
    assert (found.master_address, found.master_port, found.asked_hosts) == ("10.0.0.1", 12345, 2)


def test_the_deepspeed_launcher_says_the_local_size_in_its_own_variable() -> None:
    found = read_rank_environment(
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    )
    assert (found.launcher, found.local_world_size, found.asked_hosts) == ("deepspeed", 2, None)


def test_mpirun_says_it_in_openmpi_variables() -> None:
    found = read_rank_environment(
        {
            "OMPI_COMM_WORLD_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
            "MASTER_ADDR": "a",
            "MASTER_PORT": "7",
        }
    )
    assert (found.launcher, found.rank, found.local_rank, found.master_port) == ("mpirun", 1, 0, 7)


def test_mpirun_without_a_meeting_place_says_what_to_add() -> None:
    with pytest.raises(SettingError, match="add -x MASTER_ADDR=FIRST_HOST -x MASTER_PORT"):
        read_rank_environment({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"})


def test_srun_with_one_task_a_rank_needs_no_other_variable() -> None:
    found = read_rank_environment(SLURM_STEP)
    assert (found.launcher, found.rank, found.local_rank, found.world_size, found.local_world_size) == (
        "srun",
        3,
        1,
        4,
        2,
    )
    assert (found.master_address, found.master_port, found.asked_hosts) == ("gpu03", slurm_port("17", "0"), 2)


def test_a_plain_python_start_is_one_rank() -> None:
    found = read_rank_environment({})
    assert (found.launcher, found.rank, found.world_size, found.master_address) == ("python", 0, 1, "127.0.0.1")


def test_half_a_launcher_is_refused_by_name() -> None:
    with pytest.raises(SettingError, match="MASTER_PORT is missing though the launcher set others"):
        read_rank_environment({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_SIZE": "2"})


def test_a_rank_that_is_no_number_is_refused() -> None:
    with pytest.raises(SettingError, match="RANK is 'x', expected a whole number"):
        read_rank_environment({**TORCHRUN, "RANK": "x"})


@pytest.mark.parametrize(
    ("nodelist", "first"),
    [
        ("node1", "node1"),
        ("gpu[03-05,9],login1", "gpu03"),
        ("a,b", "a"),
        ("rack[1,2]-ib", "rack1-ib"),
        ("n[7]", "n7"),
        ("rack[0-1]node[3,5-7],x", "rack0node3"),
    ],
)
def test_the_first_host_of_a_slurm_node_list(nodelist: str, first: str) -> None:
    assert first_slurm_host(nodelist) == first


def test_an_unreadable_node_list_says_what_to_set() -> None:
    with pytest.raises(SettingError, match="set MASTER_ADDR"):
        first_slurm_host("[")


def test_outside_slurm_there_is_no_host_place() -> None:
    assert read_slurm_host_place({}) is None


def test_inside_a_slurm_step_every_host_knows_its_place() -> None:
    place = read_slurm_host_place(SLURM_STEP)
    assert place is not None
    assert (place.hosts, place.host_rank, place.master_address) == (2, 1, "gpu03")


def test_what_torch_compile_made_outlives_a_restart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert keep_inductor_results() == tmp_path / "zhgpt" / "inductor"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "zhgpt" / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    assert keep_inductor_results() == tmp_path / "mine"


def test_a_free_port_is_none_that_the_kernel_gives_to_connections() -> None:
    assert PORTS.stop <= 32768, "where Linux begins, unless ip_local_port_range says otherwise"
    assert free_port() in PORTS
    assert len({free_port() for _ in range(50)}) > 40  # two starts at once seldom choose alike
    assert {slurm_port(str(job), str(step)) for job in (1, 2_000_000) for step in range(7)} <= set(PORTS)


def test_a_port_in_use_is_never_the_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(environment, "PORTS", range(port, port + 100))
        assert port not in {free_port() for _ in range(100)}


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(environment, "PORTS", range(port, port + 1))
        with pytest.raises(SettingError, match=r"no free port .* name a free one: zhgpt pretrain --master-port"):
            free_port()
