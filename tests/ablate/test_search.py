"""Searches: what is proposed, that an interrupted search goes on as if it had not been, and what it needs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import zhgpt

from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.grid import Search, Settings, Span
from zhgpt.ablate.search import Proposals, check_search, is_trial
from zhgpt.errors import SettingError

SPACE = {
    "optim.learning_rate": Span(low=1e-4, high=1e-2, log=True),
    "schedule.warmup_steps": Span(low=1, high=5, whole=True),
    "optim.betas": Span(choices=([0.9, 0.95], [0.9, 0.99])),
}


def search(folder: Path, sampler: str = "tpe", trials: int = 6) -> Proposals:
    folder.mkdir(exist_ok=True)
    settings = Search(sampler=sampler, trials=trials, space=SPACE)  # type: ignore[arg-type]
    return Proposals(settings, AblationFolder(folder))


def go_on(proposals: Proposals, most: int = 99) -> list[Settings]:
    """Proposals with the distance to a learning rate of 1e-3 as their result."""
    found = []
    while len(found) < most and (proposal := proposals.open_or_next()) is not None:
        number, settings = proposal
        proposals.tell(number, abs(settings["optim.learning_rate"] - 1e-3))
        found.append(settings)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_search_proposes_what_it_would_have_proposed(tmp_path: Path, sampler: str) -> None:
    whole = go_on(search(tmp_path / "whole", sampler))
    parts = go_on(search(tmp_path / "parts", sampler), most=2)
    parts += go_on(search(tmp_path / "parts", sampler), most=1)
    parts += go_on(search(tmp_path / "parts", sampler))
    assert parts == whole
    assert len(whole) == 6
    assert len({settings["optim.learning_rate"] for settings in whole}) == 6


def test_values_lie_in_their_spans_and_choices_keep_their_kind(tmp_path: Path) -> None:
    for settings in go_on(search(tmp_path / "a")):
        assert 1e-4 <= settings["optim.learning_rate"] <= 1e-2
        assert settings["schedule.warmup_steps"] in (1, 2, 3, 4, 5)
        assert settings["optim.betas"] in ([0.9, 0.95], [0.9, 0.99])


def test_a_proposal_without_a_result_is_taken_up_again(tmp_path: Path) -> None:
    first = search(tmp_path / "a").open_or_next()
    assert search(tmp_path / "a").open_or_next() == first


def test_a_trial_that_failed_counts_and_is_not_proposed_again(tmp_path: Path) -> None:
    proposals = search(tmp_path / "a", trials=2)
    for _ in range(2):
        proposal = proposals.open_or_next()
        assert proposal is not None
        proposals.tell(proposal[0], None)
    assert proposals.open_or_next() is None


def test_a_missing_optuna_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingError, match=r"search needs optuna, .*pip install 'zhgpt\[search\]'"):
        check_search()


def test_trials_are_told_from_variants_by_their_name() -> None:
    assert is_trial("trial007")
    assert not is_trial("trial")
    assert not is_trial("trials1")


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.distributed
def test_a_search_trains_its_trials_reports_them_and_goes_on(make_grid: Callable[..., Path], tmp_path: Path) -> None:
    """Two trials, then one more by the same command: a legal one and one whose heads do not divide its width."""
    keys = {"variants": {"recipe": {}}, "seeds": [1]}
    space = {"model.hidden_size": {"choices": [33]}}
    folder = tmp_path / "out"
    first = zhgpt("ablate", make_grid(**keys, search={"trials": 1, "space": space}), "--dir", folder)
    assert "trial000 cannot run: variant trial000: " in first.stdout
    assert "trial 1 of 1: model.hidden_size=33: no result" in first.stdout
    space = {"optim.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    grid = make_grid(**keys, search={"sampler": "random", "trials": 2, "space": space})
    second = zhgpt("ablate", grid, "--dir", folder)
    assert "[1/1] recipe-seed1: done, skipped" in second.stdout
    assert "trial 2 of 2: optim.learning_rate=" in second.stdout
    assert [variant["name"] for variant in json.loads((folder / "plan.json").read_text())["variants"]] == [
        "recipe",
        "trial001",
    ]
    assert "trial001 against recipe: not decided, 1 seed" in second.stdout
    third = zhgpt("ablate", grid, "--dir", folder)
    assert "[2/2] trial001-seed1: done, skipped" in third.stdout
