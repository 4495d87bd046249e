"""Batches assembled ahead: the same ones, in the same order, for any number of ranks, and no thread left behind."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from synthetic import write_synthetic

from megatron_style_data.sample_source import SampleSource, open_samples
from megatron_style_data.samples import Batch
from zhgpt.config.batch_plan import BatchPlan, BatchStage
from zhgpt.errors import StorageError
from zhgpt.train.batches import host_batch
from zhgpt.train.loader import LoadedBatch, Loader, pins_memory

STEPS, GLOBAL_BATCH, LENGTH = 6, 16, 20


def plan(ranks: int = 1, micro_batch_size: int = 4) -> BatchPlan:
    accumulation = GLOBAL_BATCH // (ranks * micro_batch_size)
    tokens = GLOBAL_BATCH * LENGTH
    return BatchPlan(GLOBAL_BATCH, micro_batch_size, accumulation, ranks, LENGTH, tokens, STEPS, tokens * STEPS)


@pytest.fixture
def samples(tmp_path: Path) -> SampleSource:
    write_synthetic(tmp_path / "d", 1_050)  # its last sample of an epoch has fewer targets
    return open_samples(tmp_path / "d", sequence_length=LENGTH, seed=1)


def take_all(loader: Loader, first_step: int, batch_plan: BatchPlan) -> list[LoadedBatch]:
    try:
        return [
            loader.take(step, micro_step)
            for step in range(first_step, batch_plan.steps)
            for micro_step in range(batch_plan.gradient_accumulation_steps)
        ]
    finally:
        loader.close()


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "zhgpt-loader"]


class Failing:
    """A source whose disk goes away at some sample."""

    def __init__(self, samples: SampleSource, at: int) -> None:
        self._samples, self._at = samples, at
        self.tokens, self.sequence_length = samples.tokens, samples.sequence_length
        self.samples_per_epoch = samples.samples_per_epoch
        self.asked: list[int] = []

    def batch(self, sample_ids: ArrayLike) -> Batch:
        first = int(np.asarray(sample_ids)[0])
        self.asked.append(first)
        if first == self._at:
            raise StorageError("d.bin: cannot be read: Input/output error.")
        return self._samples.batch(sample_ids)

    def targets_in(self, first: int, count: int) -> int:
        return self._samples.targets_in(first, count)


@pytest.mark.parametrize("attend", [False, True])
def test_the_thread_gives_what_is_assembled_in_place(samples: SampleSource, attend: bool) -> None:
    runs = []
    for prefetch in (0, 1, 8):
        loader = Loader(samples, plan(), 0, first_step=0, prefetch=prefetch, attend_across_documents=attend)
        runs.append(take_all(loader, 0, plan()))
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            assert (one.step, one.micro_step, one.targets) == (two.step, two.micro_step, two.targets)
            for name in ("tokens", "labels", "position_ids"):
                assert torch.equal(getattr(one.batch, name), getattr(two.batch, name))
            assert (one.batch.document_ids is None) == attend


@pytest.mark.parametrize(("ranks", "micro_batch_size"), [(1, 16), (1, 2), (2, 4), (4, 4), (8, 2)])
def test_a_step_has_the_same_samples_for_any_number_of_ranks(
    samples: SampleSource, ranks: int, micro_batch_size: int
) -> None:
    cut = plan(ranks, micro_batch_size)
    loaded = [take_all(Loader(samples, cut, rank, first_step=0), 0, cut) for rank in range(ranks)]
    for step in range(STEPS):
        rows = [
            part.batch.tokens
            for micro_step in range(cut.gradient_accumulation_steps)
            for rank in range(ranks)
            for part in [loaded[rank][step * cut.gradient_accumulation_steps + micro_step]]
        ]
        expected = samples.batch(np.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH))
        assert torch.cat(rows).tolist() == expected.tokens[:, :-1].tolist()
        assert {part[0].targets for part in loaded} == {samples.targets_in(0, GLOBAL_BATCH)}
        assert loaded[0][step * cut.gradient_accumulation_steps].targets == int(expected.target_mask.sum())


def test_a_resumed_run_takes_what_the_first_one_would_have(samples: SampleSource) -> None:
    whole = take_all(Loader(samples, plan(), 0, first_step=0), 0, plan())
    resumed = take_all(Loader(samples, plan(), 0, first_step=4), 4, plan())
    assert [part.batch.tokens.tolist() for part in resumed] == [part.batch.tokens.tolist() for part in whole[16:]]


def test_an_error_surfaces_at_its_own_step_and_ends_the_thread(samples: SampleSource) -> None:
    for prefetch in (0, 8):
        failing = Failing(samples, at=2 * GLOBAL_BATCH + 4)
        loader = Loader(failing, plan(), 0, first_step=0, prefetch=prefetch)
        for step in range(2):
            for micro_step in range(4):
                loader.take(step, micro_step)
        loader.take(2, 0)
        with pytest.raises(StorageError, match="Input/output error"):
            loader.take(2, 1)
        loader.close()
        assert loader_threads() == []


def test_no_more_is_assembled_ahead_than_asked_for(samples: SampleSource) -> None:
    counting = Failing(samples, at=-1)
    loader = Loader(counting, plan(), 0, first_step=0, prefetch=3)
    loader.take(0, 0)
    deadline = time.monotonic() + 10
    while len(counting.asked) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(counting.asked) == 5  # one taken, three that wait, one in hand
    loader.close()
    assert loader_threads() == []


def test_a_loader_that_is_never_used_starts_no_thread(samples: SampleSource) -> None:
    loader = Loader(samples, plan(), 0, first_step=0)
    assert loader_threads() == []
    loader.close()
    loader.close()


def test_it_knows_how_long_the_training_waited(samples: SampleSource) -> None:
    loader = Loader(samples, plan(), 0, first_step=0, prefetch=0)
    loader.take(0, 0)
    assert loader.waited_seconds > 0
    loader.close()


def test_only_a_gpu_wants_pinned_memory() -> None:
    assert not pins_memory(torch.device("cpu"))
    assert pins_memory(torch.device("cuda"))


@pytest.mark.parametrize("attend", [False, True])
def test_short_rows_have_the_tokens_and_targets_of_their_sample_and_see_less_context(
    samples: SampleSource, attend: bool
) -> None:
    batch = samples.batch(np.arange(60))
    whole = host_batch(batch, attend_across_documents=attend)
    cut = host_batch(batch, attend_across_documents=attend, row_length=5)
    assert cut.tokens.shape == (240, 5)
    for name in ("tokens", "labels"):
        assert torch.equal(getattr(cut, name).reshape(60, 20), getattr(whole, name))
    positions, expected = cut.position_ids.tolist(), []
    for row in whole.position_ids.reshape(-1, 5).tolist():
        counted: list[int] = []
        for place, position in enumerate(row):  # a document starts at position 0, and so does a row
            counted.append(0 if position == 0 or place == 0 else counted[-1] + 1)
        expected.append(counted)
    assert positions == expected
    assert (cut.document_ids is None) == attend
    if cut.document_ids is not None and whole.document_ids is not None:
        assert torch.equal(cut.document_ids.reshape(60, 20), whole.document_ids)


def test_a_ramp_takes_each_sample_once_and_counts_the_targets_of_each_step(samples: SampleSource) -> None:
    sizes = [4, 4, 8, 8, 16, 16]
    ramp = (BatchStage(0, 0, 4, 1, 10), BatchStage(2, 8, 8, 2, 20), BatchStage(4, 24, 16, 4, 20))
    tokens = GLOBAL_BATCH * LENGTH
    grown = BatchPlan(GLOBAL_BATCH, 4, 4, 1, LENGTH, tokens, STEPS, sum(sizes) * LENGTH, ramp)
    loader = Loader(samples, grown, 0, first_step=0)
    first = 0
    for step, size in enumerate(sizes):
        expected = samples.batch(np.arange(first, first + size))
        loaded = [loader.take(step, micro_step) for micro_step in range(size // 4)]
        assert torch.cat([part.batch.tokens.reshape(4, LENGTH) for part in loaded]).tolist() == (
            expected.tokens[:, :-1].tolist()
        )
        assert {part.targets for part in loaded} == {int(expected.target_mask.sum())}
        first += size
    loader.close()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_loader_goes_on_elsewhere_with_samples_passed_over(samples: SampleSource, prefetch: int) -> None:
    batch_plan = plan()
    loader = Loader(samples, batch_plan, 0, first_step=0, prefetch=prefetch)
    for step in range(3):
        for micro_step in range(batch_plan.gradient_accumulation_steps):
            loader.take(step, micro_step)
    loader.restart(2, skipped_samples=GLOBAL_BATCH)
    found = take_all(loader, 2, batch_plan)
    later = take_all(Loader(samples, batch_plan, 0, first_step=3), 3, batch_plan)
    assert len(found) == len(later) + batch_plan.gradient_accumulation_steps
    for one, other in zip(found, later, strict=False):  # step n reads what step n + 1 would have
        assert torch.equal(one.batch.tokens, other.batch.tokens)
        assert (one.step, one.targets) == (other.step - 1, other.targets)
