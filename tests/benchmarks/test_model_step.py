"""What the rows of steps say about what was measured."""

from typing import Any

from benchmarks.model_step import CASES, ENGINE_VARIANTS, MODEL_VARIANTS, median_between, quietest, rows_of
from benchmarks.step_variants import VARIANTS
from zhgpt.config.schema import OptimSection


def measured(**seconds: list[float]) -> dict[str, Any]:
    names = {name.replace("_", " "): runs for name, runs in seconds.items()}
    return {
        "tokens": 1000,
        "flops_per_token": 2e8,
        "peak_flops": 4e11,
        "cpu_seconds": names,
        "wall_seconds": names,
        "first_seconds": dict.fromkeys(names, 7.0),
        "all_cpu_seconds": names,
    }


MODEL_RUNS = {
    "ours": [1.0, 0.9, 3.0],
    "ours_compiled": [0.8] * 3,
    "ours,_Muon": [1.25] * 3,
    "transformers_eager": [1.25] * 3,
    "transformers_compiled": [1.0] * 3,
}


def test_a_step_is_compared_with_both_forms_of_transformers_by_its_median() -> None:
    eager, compiled, mine_compiled, both, _ = rows_of("6 × 384, bf16", measured(**MODEL_RUNS))
    assert (eager.ratio, compiled.ratio, both.ratio) == (1.25, 1.0, 1.25)
    assert (mine_compiled.baseline, mine_compiled.ratio) == ("transformers eager", 1.5625)
    assert (
        eager.notes
        == "MFU 50 % against 40 %; peak 400 GFLOP/s; ratio within all 3 rounds 0.42 to 1.39; baseline spread 0.0 %"
    )
    assert (eager.at_least, compiled.at_least, both.at_least) == ("1.15; 60 % MFU", "1.0", "")
    assert "first steps 7 and 7 s" in both.notes


def test_what_muon_costs_is_shown_against_ours_with_adamw() -> None:
    *_, muon = rows_of("6 × 384, bf16", measured(**MODEL_RUNS))
    assert (muon.what, muon.baseline) == ("6 × 384, bf16: step of 1,000 tokens, ours, Muon, ZeRO-1", "ours")
    assert muon.ratio == 0.8
    assert muon.notes.startswith("overhead 25.0 %; ")


def test_every_variant_can_be_made_and_muon_is_what_a_run_with_defaults_takes() -> None:
    assert set(MODEL_VARIANTS + ENGINE_VARIANTS) == set(VARIANTS)
    assert VARIANTS["ours, Muon"].keywords["optimizer"] == OptimSection().name  # type: ignore[attr-defined]


def test_overheads_are_shown_against_the_plain_loop() -> None:
    rows = rows_of("engine, eight micro-steps", measured(plain_loop=[2.0], **{"ZeRO-1": [2.1], "ZeRO-2": [2.0]}))
    assert [row.notes.split(";")[0] for row in rows] == ["overhead 5.0 %", "overhead 0.0 %"]
    assert {row.at_least for row in rows} == {"overhead ≤ 8 %"}


def test_a_baseline_that_varies_makes_its_row_void() -> None:
    rows = rows_of("engine, one micro-step", measured(plain_loop=[2.0, 2.2], **{"ZeRO-1": [2.1, 2.1]}))
    assert rows[0].notes.endswith("baseline spread 10.0 %; **void**")


def test_the_rounds_that_count_are_the_quietest_for_the_baselines() -> None:
    seconds = [(1.0, 5.0), (1.4, 5.0), (1.1, 9.0), (1.1, 5.0), (1.11, 1.0), (1.3, 5.0)]
    rounds = [{"plain loop": {"cpu_seconds": base}, "ZeRO-1": {"cpu_seconds": ours}} for base, ours in seconds]
    assert quietest(rounds, 3, ["plain loop"]) == rounds[2:5], "whatever the other variant met in them"
    assert quietest(rounds, 3, ["plain loop", "ZeRO-1"]) == rounds[1:4], "of two that are equal the later"


def test_all_rounds_say_between_what_the_ratio_lies() -> None:
    numbers = [float(number) for number in range(1, 29)]
    assert median_between(numbers) == (9.0, 20.0), "28 tosses of a coin: less than 9 heads or tails in 3.6 % of cases"
    assert median_between(numbers[:6]) == (1.0, 6.0)
    assert median_between([2.0, 1.0, 3.0]) == (1.0, 3.0), "too few for 95 %"
    assert median_between([4.0]) == (4.0, 4.0)


def test_every_case_repeats_at_least_five_times() -> None:
    assert all(int(str(case["repeats"])) >= 5 for case in CASES.values())
