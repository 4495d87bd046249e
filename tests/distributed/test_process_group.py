"""Which GPU a rank takes. Not run on a GPU yet: torch.cuda is a stand-in."""

import os

import pytest
import torch

from zhgpt.distributed.environment import RankEnvironment
from zhgpt.distributed.process_group import check_gpus, choose_device, gpu_identity, lost_rank, shared_gpu
from zhgpt.errors import SettingError


def environment(launcher: str, local_rank: int, local_world_size: int) -> RankEnvironment:
    return RankEnvironment(launcher, local_rank, local_rank, local_world_size, local_world_size, "a", 1, None)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices that were made current; what is written for DeepSpeed is taken back after the test."""
    devices: list[torch.device] = []
    monkeypatch.setenv("LOCAL_RANK", "unknown")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "unknown")
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    return devices


@pytest.mark.parametrize(
    ("launcher", "visible", "local_rank", "index"),
    [
        ("torchrun", 4, 3, 3),
        ("srun", 4, 3, 3),
        ("srun", 1, 3, 0),
        ("mpirun", 1, 2, 0),
        ("deepspeed", 8, 0, 0),
    ],
)
def test_a_rank_takes_the_gpu_of_its_local_rank_or_the_only_one_it_is_shown(
    launcher: str, visible: int, local_rank: int, index: int, taken: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert choose_device(environment(launcher, local_rank, 4), "cuda") == torch.device("cuda", index)
    assert taken == [torch.device("cuda", index)]
    # DeepSpeed takes the GPU of this number, and wants OpenMPI to say the same.
    assert {os.environ[name] for name in ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")} == {str(index)}


@pytest.mark.parametrize(("launcher", "visible"), [("srun", 2), ("zhgpt", 1), ("torchrun", 3), ("mpirun", 0)])
def test_more_ranks_than_gpus_are_refused(
    launcher: str, visible: int, taken: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with pytest.raises(SettingError, match=f"4 ranks were started on .* torch sees {visible} GPUs there; start one"):
        choose_device(environment(launcher, 0, 4), "cuda")
    assert taken == []


def test_a_rank_on_a_cpu_takes_no_gpu(taken: list[torch.device]) -> None:
    device = choose_device(environment("srun", 1, 4), "cpu")
    assert (device.type, gpu_identity(device), taken) == ("cpu", None, [])


def test_two_ranks_on_one_gpu_are_refused_naming_both() -> None:
    check_gpus([("node1", "a"), ("node1", "b"), ("node2", "a"), ("node2", None), ("node2", None)])
    with pytest.raises(
        SettingError, match=r"ranks 1 and 2 both have GPU b of node1; start one process a GPU, and let each"
    ):
        check_gpus([("node1", "a"), ("node1", "b"), ("node1", "b")])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("[buffer.cc:81] Timed out waiting 3000ms for recv", "another rank has not answered for 3 s (launch.timeout"),
        ("[pair.cc:534] Connection closed by peer [10.0.0.1]:7", "the connection to another rank broke"),
        ("Read error [10.0.0.1]:7: Connection reset by peer", "the connection to another rank broke"),
        ("The size of tensor a must match the size of tensor b", None),
    ],
)
def test_what_gloo_says_of_a_lost_rank_becomes_a_sentence(said: str, sentence: str | None) -> None:
    found = lost_rank(RuntimeError(said), 3)
    if sentence is None:
        assert found is None
    else:
        assert found is not None
        assert sentence in str(found)
        assert said in str(found)


def test_nccls_word_for_two_ranks_on_one_gpu_becomes_a_sentence() -> None:
    # As NCCL words it (init.cc): it connects, and fails, before the ranks could compare their GPUs.
    nccl = (
        "NCCL error: invalid usage\nLast error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1a000"
    )
    found = shared_gpu(RuntimeError(nccl))
    assert found is not None
    assert "two ranks have one GPU on" in str(found)
    assert "rank 1 and rank 0 both on CUDA device 1a000" in str(found)
    assert "start one process a GPU" in str(found)
    assert shared_gpu(RuntimeError("NCCL error: unhandled system error")) is None
