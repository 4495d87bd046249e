"""One door to samples of any packing and order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_style_data.errors import MissingInputError, SettingError
from megatron_style_data.megatron_order import MegatronSamples
from megatron_style_data.packed_samples import PackedSamples
from megatron_style_data.packing import pack
from megatron_style_data.sample_source import open_samples
from megatron_style_data.samples import Samples

DOCUMENTS = [[1, 2, 3, 4, 5], [6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, Samples),
        ({"packing": "concatenate", "order": "index_free"}, Samples),
        ({"packing": "best_fit"}, PackedSamples),
        ({"order": "megatron", "total_samples": 9}, MegatronSamples),
    ],
)
def test_packing_and_order_choose_the_reader(
    write_dataset: Callable[..., Any], tmp_path: Path, options: dict[str, Any], kind: type
) -> None:
    write_dataset(tmp_path / "d", DOCUMENTS)
    pack(tmp_path / "d", sequence_length=4)
    samples = open_samples(tmp_path / "d", sequence_length=4, seed=1, **options)
    assert type(samples) is kind
    assert (samples.tokens, samples.sequence_length) == (9, 4)
    batch = samples.batch(np.arange(3))
    assert batch.tokens.shape == (3, 5)
    assert int(batch.target_mask.sum()) == samples.targets_in(0, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"packing": "tight"}, "packing 'tight': expected one of concatenate, best_fit"),
        ({"order": "random"}, "order 'random': expected one of index_free, megatron"),
        ({"order": "megatron", "packing": "best_fit"}, "order megatron reads packing concatenate only"),
        ({"order": "megatron", "shuffle": False}, "order megatron is always shuffled"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    write_dataset: Callable[..., Any], tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    write_dataset(tmp_path / "d", DOCUMENTS)
    with pytest.raises(SettingError, match=words):
        open_samples(tmp_path / "d", sequence_length=4, **options)


def test_packing_is_made_once_by_a_command_and_not_at_every_start(
    write_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "d", DOCUMENTS)
    with pytest.raises(MissingInputError, match="best-fit packing is made once, by `zhgpt data pack"):
        open_samples(tmp_path / "d", sequence_length=4, packing="best_fit")
