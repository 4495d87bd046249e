"""A blend of real datasets: the samples of its sources, each once an epoch, whatever the weights do."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_style_data.blend import Blend
from megatron_style_data.blend_schedule import BlendSchedule, Phase
from megatron_style_data.errors import SettingError
from megatron_style_data.sample_source import SampleSource, open_samples

SIZES = (600, 170, 90)


@pytest.fixture
def sources(write_dataset: Callable[..., Any], tmp_path: Path) -> list[SampleSource]:
    """Three sources; token t of source i is 1000 * i + t, so that a token says where it comes from."""
    opened = []
    for number, size in enumerate(SIZES):
        first = 1000 * number
        write_dataset(
            tmp_path / f"d{number}",
            [list(range(first, first + size // 2)), list(range(first + size // 2, first + size))],
            vocab_size=3000,
        )
        opened.append(open_samples(tmp_path / f"d{number}", sequence_length=8, seed=3))
    return opened


def schedule(*phases: tuple[int, tuple[int, ...]]) -> BlendSchedule:
    return BlendSchedule(tuple(Phase(first, tuple(map(Fraction, weights))) for first, weights in phases))


def test_a_batch_holds_the_samples_that_the_schedule_names(sources: list[SampleSource]) -> None:
    blend = Blend(sources, schedule((0, (6, 3, 1)), (50, (1, 0, 4))))
    wanted = np.random.default_rng(0).permutation(120)
    batch = blend.batch(wanted)
    for row, (number, cursor) in enumerate(zip(*blend.schedule.locate(wanted), strict=True)):
        alone = sources[number].batch([cursor])
        for name in ("tokens", "document_ids", "position_ids", "target_mask"):
            assert getattr(batch, name)[row].tolist() == getattr(alone, name)[0].tolist()


def test_any_cut_into_batches_gives_the_same_samples(sources: list[SampleSource]) -> None:
    blend = Blend(sources, schedule((0, (6, 3, 1))))
    together = blend.batch(np.arange(64)).tokens
    for ranks in (1, 2, 4):
        parts = [blend.batch(np.arange(first, first + 64 // ranks)).tokens for first in range(0, 64, 64 // ranks)]
        assert np.concatenate(parts).tolist() == together.tolist()


def test_each_token_of_a_source_is_a_target_once_an_epoch_across_phases(sources: list[SampleSource]) -> None:
    blend = Blend(sources, schedule((0, (6, 3, 1)), (30, (0, 1, 3)), (37, (5, 1, 1))))
    samples = 160
    batch = blend.batch(np.arange(samples))
    seen = Counter(batch.tokens[:, 1:][batch.target_mask].tolist())
    for number, (size, cursor) in enumerate(zip(SIZES, blend.schedule.counts_before(samples), strict=True)):
        epochs, into = divmod(cursor, sources[number].samples_per_epoch)
        counts = [seen[1000 * number + token] for token in range(size)]
        assert set(counts) <= {epochs, epochs + 1}
        assert sum(counts) - epochs * size == sources[number].targets_in(
            epochs * sources[number].samples_per_epoch, into
        )


def test_targets_are_counted_exactly_without_reading(sources: list[SampleSource]) -> None:
    blend = Blend(sources, schedule((0, (6, 3, 1)), (40, (1, 1, 8))))
    masks = blend.batch(np.arange(200)).target_mask.sum(axis=1)
    for first, count in ((0, 200), (0, 0), (17, 40), (39, 2), (150, 50)):
        assert blend.targets_in(first, count) == masks[first : first + count].sum()


def test_a_blend_of_one_source_is_that_source(sources: list[SampleSource]) -> None:
    blend = Blend(sources[:1], schedule((0, (5,)), (9, (2,))))
    assert blend.batch(np.arange(90)).tokens.tolist() == sources[0].batch(np.arange(90)).tokens.tolist()


def test_its_sizes_are_those_of_all_sources(sources: list[SampleSource]) -> None:
    blend = Blend(sources, schedule((0, (6, 3, 1))))
    assert (blend.tokens, blend.sequence_length, blend.samples_per_epoch) == (860, 8, 75 + 22 + 12)


def test_sources_and_weights_must_be_as_many(sources: list[SampleSource]) -> None:
    with pytest.raises(SettingError, match="a blend of 3 sources has weights for 2"):
        Blend(sources, schedule((0, (6, 3))))


def test_sources_must_have_one_sequence_length(sources: list[SampleSource], tmp_path: Path) -> None:
    longer = open_samples(tmp_path / "d0", sequence_length=16)
    with pytest.raises(SettingError, match="sources of a blend have sequence lengths 8 and 16"):
        Blend([longer, *sources[1:]], schedule((0, (6, 3, 1))))
