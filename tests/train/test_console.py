"""What the console shows, in a terminal, in a file, and where neither Chinese nor width is to be had."""

import io
import math
import re
from pathlib import Path

import pytest

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.train.console import Console

PLAN = BatchPlan(
    global_batch_size=64,
    micro_batch_size=4,
    gradient_accumulation_steps=8,
    data_parallel_size=2,
    sequence_length=1024,
    tokens_per_step=65_536,
    steps=1_000,
    total_tokens=65_536_000,
)
RECORD = {
    "step": 100,
    "loss": 6.54321,
    "bits_per_byte": 2.34567,
    "learning_rate": 6e-4,
    "gradient_norm": 0.8312,
    "tokens_per_second": 12_345.6,
    "mfu": 0.4123,
    "eta_seconds": 3_725.0,
    "valid_loss": 6.4,
    "valid_perplexity": 601.8,
    "valid_bits_per_byte": 2.29,
}
SAMPLE = {
    "prompt": "村民们都很高兴，在",
    "text": "村里\n唱歌\x1b[31m。",
    "distinct_2": 0.876,
    "repeated_4gram_share": 0.031,
    "punctuation_share": 0.12,
}


def _show(console: Console) -> None:
    console.start("试跑", PLAN, {"model": "llama, 124M parameters"}, resumed_step=90)
    console.step(RECORD)
    console.evaluation(RECORD, [SAMPLE])
    console.message("saved checkpoints/step-00000100")
    console.close()
    console.close()


def test_outside_a_terminal_everything_is_a_plain_line() -> None:
    stream = io.StringIO()
    _show(Console(stream))
    assert stream.getvalue().splitlines() == [
        "run 试跑: continues after step 90",
        "  batch: 4 sequences × 8 micro-steps × 2 ranks = 64 sequences × 1,024 tokens = 65,536 tokens a step",
        "  run: 1,000 steps × 65,536 tokens = 65.5M tokens",
        "  model: llama, 124M parameters",
        "step  100/1000  loss 6.5432  2.3457 bits/byte  lr 6.00e-04  grad 0.83  12.3k tokens/s  MFU 41.2 %  "
        "ETA 1 h 02 min",
        "evaluation at step 100: loss 6.4000, perplexity 601.8, 2.2900 bits/byte",
        "  村民们都很高兴，在 ▸ 村里·唱歌·[31m。  (distinct-2 0.88, repeated 4-grams 3.1 %, punctuation 12.0 %)",
        "saved checkpoints/step-00000100",
    ]


def test_a_number_that_is_not_known_is_left_out_and_nan_is_shown() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.step({"step": 1, "loss": math.nan, "mfu": None, "eta_seconds": math.inf})
    assert stream.getvalue() == "step 1/0  loss nan  ETA inf\n"


def test_a_long_continuation_is_cut_to_one_line() -> None:
    stream = io.StringIO()
    Console(stream).evaluation({"step": 1}, [{"prompt": "天", "text": "地" * 400}])
    assert stream.getvalue().splitlines()[1] == "  天 ▸ " + "地" * 160 + "…"


def test_in_a_terminal_the_bar_shows_progress_and_lines_stay_above_it() -> None:
    stream = io.StringIO()
    _show(Console(stream, terminal=True, width=140))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "step 100/1000" in plain
    assert "loss 6.5432  2.3457 bits/byte  lr 6.00e-04  grad 0.83  12.3k tokens/s  MFU 41.2 %" in plain
    assert "evaluation at step 100: loss 6.4000" in plain
    assert "saved checkpoints/step-00000100" in plain


@pytest.mark.parametrize(
    ("width", "status"),
    [
        (140, "loss 6.5432  2.3457 bits/byte  lr 6.00e-04  grad 0.83  12.3k tokens/s  MFU 41.2 %  ETA 1 h 02 min"),
        (110, "loss 6.5432  2.3457 bits/byte  lr 6.00e-04  12.3k tokens/s  ETA 1 h 02 min"),
        (80, "loss 6.5432  2.3457 bits/byte  ETA 1 h 02 min"),
        (60, "loss 6.5432  ETA 1 h 02 min"),
        (40, "loss 6.5432"),
        (10, ""),
        (1, ""),
    ],
)
def test_a_narrow_terminal_shows_the_most_wanted_that_fits(width: int, status: str) -> None:
    stream = io.StringIO()
    _show(Console(stream, terminal=True, width=width))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert status in plain
    assert ("loss 6.5432" in plain) == bool(status)
    assert ("MFU" in plain) == (width == 140)
    assert "saved checkpoints/step-00000100" in plain


@pytest.mark.parametrize("terminal", [False, True])
def test_an_ascii_terminal_gets_replacements(terminal: bool) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    _show(Console(stream, terminal=terminal, width=100))
    stream.flush()
    shown = raw.getvalue().decode("ascii")
    assert "4 sequences x 8 micro-steps x 2 ranks" in shown
    assert "????????? > " in shown


def test_an_output_that_is_gone_silences_the_console() -> None:
    stream = Path("/dev/full").open("w", encoding="utf-8", buffering=1)  # noqa: SIM115
    for terminal in (False, True):
        _show(Console(stream, terminal=terminal, width=100))
    with pytest.raises(OSError, match="No space left"):
        stream.close()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_output_silences_the_console(terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(stream, terminal=terminal, width=100)
    stream.close()
    _show(console)
