"""The cluster script itself: what it refuses, and that it leaves nothing behind."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

SCRIPT = Path(__file__).resolve().parent / "cluster.sh"
PACKAGES = SCRIPT.with_name("packages.sh")


def script(state: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ZHGPT_CLUSTER_DIR": str(state), **settings}
    return subprocess.run(
        [str(SCRIPT), *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def namespaces() -> set[str]:
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=30, check=True)
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_hosts_have_names_of_their_own_and_nothing_is_left_after_down(tmp_path: Path) -> None:
    before, state = namespaces(), tmp_path / "state"
    assert script(state, "up", "1").returncode == 0
    assert script(state, "exec", "node1", "hostname").stdout == "node1\n"
    assert script(state, "exec", "head", "ssh", "node1", "hostname").stdout == "node1\n"
    assert "node1 10.77.0.11 up" in script(state, "status").stdout
    assert script(state, "down").returncode == 0
    assert script(state, "status").returncode == 3
    assert namespaces() == before
    assert [path.name for path in state.iterdir()] == ["log"]


def test_two_clusters_do_not_see_each_other(tmp_path: Path) -> None:
    states = [tmp_path / "a", tmp_path / "b"]
    try:
        assert [script(state, "up", "1").returncode for state in states] == [0, 0]
        script(states[0], "exec", "node1", "touch", "/run/mine")
        assert script(states[1], "exec", "node1", "test", "-e", "/run/mine").returncode == 1
    finally:
        for state in states:
            script(state, "down")


def test_the_cluster_goes_when_its_owner_is_killed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    owner = subprocess.Popen(["sleep", "600"])
    assert script(state, "up", "1", ZHGPT_CLUSTER_OWNER=str(owner.pid)).returncode == 0
    owner.send_signal(signal.SIGKILL)
    owner.wait(timeout=10)
    end = time.monotonic() + 20
    while (state / "run").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert script(state, "status").returncode == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("up", "none"), "the number of nodes must be 1 to 99, not 'none'"),
        (("exec", "head", "true"), "no cluster is up in"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = script(tmp_path / "state", *words)
    assert done.returncode == 1
    assert message in done.stderr


def test_an_unknown_host_is_refused_with_the_known_ones(running_cluster: object, tmp_path: Path) -> None:
    state = running_cluster.state  # type: ignore[attr-defined]
    done = script(state, "exec", "node9", "true")
    assert "no host 'node9'; hosts: head node1 node2" in done.stderr


def test_missing_packages_are_listed_with_the_command_that_installs_them(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "sort", "id", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}" if name != "bash" else "/bin/bash")
    bare = {"PATH": str(tmp_path)}
    text = PACKAGES.read_text().replace("export PATH=$PATH:/usr/sbin:/sbin", "")
    (tmp_path / "packages.sh").write_text(text)
    command = ["/bin/bash", str(tmp_path / "packages.sh"), "--check"]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Debian packages are missing: hostname iproute2 munge" in done.stderr
    assert "apt-get install -y --no-install-recommends" in done.stderr
