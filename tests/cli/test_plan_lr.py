"""`zhgpt plan lr` on a tiny model: its ranks are real, and forked so that the test does not wait for their imports."""

import json
from pathlib import Path

import pytest
from ranks import Ranks
from tiny import ROOT, Tiny
from typer.testing import CliRunner

from zhgpt.cli.plan import app
from zhgpt.distributed import local_launcher
from zhgpt.distributed.local_launcher import LaunchOutcome
from zhgpt.errors import SettingError
from zhgpt.report.page import findings_in, judge_run
from zhgpt.report.recorded_run import read_run

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def test_a_range_test_trains_prints_a_suggestion_and_leaves_plot_and_numbers(
    ranks: Ranks, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forked(command: list[str], plan: local_launcher.LaunchPlan) -> LaunchOutcome:
        (outcome,) = ranks.run("faults:train", command[3:], world_size=plan.world_size)
        return LaunchOutcome(outcome.code or 0)

    monkeypatch.setattr(local_launcher, "run_ranks", forked)
    words = ["--config", str(tiny.recipe()), "--deepspeed_config", str(ROOT / "ds_configs" / "zero1.json"), "-n", "1"]
    asked = ["lr", *words, "--steps", "40", "--lowest", "1e-4", "-o", str(tmp_path / "range")]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "range" / "lr_range.json").read_text())
    assert f"suggestion: optim.learning_rate={found['suggestion']:g}" in done.stdout
    assert 1e-4 < found["suggestion"] < found["lowest"] < 1
    rates = [step["learning_rate"] for step in found["steps"]]
    assert rates[1] / rates[0] == pytest.approx(rates[-1] / rates[-2])
    assert (tmp_path / "range" / "lr_range.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "range" / "checkpoints").exists()
    events = [
        json.loads(line)["event"] for line in (tmp_path / "range" / "events.jsonl").read_text("utf-8").splitlines()
    ]
    assert "started" in events
    assert not {"finding", "verdict"} & set(events)  # its end is ill because the test asks for it
    run = read_run(tmp_path / "range")
    assert (findings_in(run), judge_run(run).kind) == ([], "range_test")
    with pytest.raises(SettingError, match="holds a run already; choose another --output, or delete it"):
        CliRunner().invoke(app, asked, catch_exceptions=False)
