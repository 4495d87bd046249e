"""What a checkpoint's weights come with."""

from pathlib import Path

import pytest
from written_checkpoint import write_checkpoint

from zhgpt.checkpoint.consolidated import load_consolidated
from zhgpt.errors import MissingInputError


def test_a_checkpoint_without_the_runs_tokenizer_says_where_it_belongs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoints", 100, others={"train_state.json": b"{}"})
    with pytest.raises(
        MissingInputError, match=f"{tmp_path}/tokenizer: the run's copy of its tokenizer is missing; copy"
    ):
        load_consolidated(tmp_path)
