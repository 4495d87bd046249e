"""Batches ready before they are wanted: one background thread assembles them, in the order of the run.

The thread has no say in what is read: micro-step m of step n holds the samples that `first_sample` names, whoever
assembles them and however far ahead, so a run is the same with and without it, and a resumed one needs nothing but its
first step.
"""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from megatron_style_data.sample_source import SampleSource
from zhgpt.config.batch_plan import BatchPlan
from zhgpt.train.batches import MicroBatch, first_sample, host_batch

# How often a full queue looks whether the run has ended.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class LoadedBatch:
    """One rank's part of a micro-step, still on the host."""

    step: int
    micro_step: int
    batch: MicroBatch
    targets: int
    """Unmasked targets of the whole step, over all ranks and micro-steps."""


@dataclass(frozen=True)
class _Failure:
    """What ended the thread; raised where its batch would have been taken."""

    error: BaseException


class Loader:
    """Gives one rank its batches, step by step from `first_step` on.

    Attributes:
        waited_seconds: how long `take` has waited for batches so far.
    """

    def __init__(
        self,
        samples: SampleSource,
        plan: BatchPlan,
        rank: int,
        *,
        first_step: int,
        attend_across_documents: bool = False,
        pin_memory: bool = False,
        prefetch: int = 8,
        skipped_samples: int = 0,
    ) -> None:
        """Says what will be loaded; the thread starts with the first `take`.

        Args:
            samples: of the run; used by the thread alone from then on.
            plan: batch arithmetic; the last batch is that of its last step.
            rank: data-parallel rank.
            first_step: 0, or where the checkpoint left off.
            attend_across_documents: see :func:`zhgpt.train.batches.host_batch`.
            pin_memory: put batches where a GPU copies them from while it computes. Not run on a GPU yet.
            prefetch: micro batches assembled ahead; 0: none, and no thread.
            skipped_samples: passed over by the spike policy: every step's samples are so many later.
        """
        self._samples, self._plan, self._rank = samples, plan, rank
        self._attend, self._pin = attend_across_documents, pin_memory
        self._prefetch = prefetch
        self.waited_seconds = 0.0
        self._begin(first_step, skipped_samples)

    def restart(self, first_step: int, skipped_samples: int) -> None:
        """Goes on elsewhere: from ``first_step``, with so many samples passed over."""
        self.close()
        self._begin(first_step, skipped_samples)

    def _begin(self, first_step: int, skipped_samples: int) -> None:
        self._first_step, self._skipped_samples = first_step, skipped_samples
        self._queue: queue.Queue[LoadedBatch | _Failure] = queue.Queue(maxsize=max(1, self._prefetch))
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._inline: Iterator[LoadedBatch] | None = self._batches() if self._prefetch == 0 else None

    def take(self, step: int, micro_step: int) -> LoadedBatch:
        """The next batch, which must be that of `step` and `micro_step`; what the thread failed with is raised here."""
        started = time.perf_counter()
        if self._inline is not None:
            loaded: LoadedBatch | _Failure = next(self._inline)
        else:
            self._start()
            loaded = self._queue.get()
        self.waited_seconds += time.perf_counter() - started
        if isinstance(loaded, _Failure):
            self.close()
            raise loaded.error
        assert (loaded.step, loaded.micro_step) == (step, micro_step), f"{loaded.step}.{loaded.micro_step} is next"
        return loaded

    def close(self) -> None:
        """Ends the thread and waits for it; a second call does nothing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        if self._thread is None:
            assert not self._ended.is_set(), "this loader was closed"
            self._thread = threading.Thread(target=self._fill, name="zhgpt-loader", daemon=True)
            self._thread.start()

    def _fill(self) -> None:
        """The thread: hands over every batch, or what went wrong with one."""
        try:
            for loaded in self._batches():
                if not self._put(loaded):
                    return
        except BaseException as error:  # not handled here: the main thread raises it in its place
            self._put(_Failure(error))

    def _put(self, loaded: LoadedBatch | _Failure) -> bool:
        """Waits for room; False when the run has ended."""
        while not self._ended.is_set():
            try:
                self._queue.put(loaded, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _batches(self) -> Iterator[LoadedBatch]:
        plan = self._plan
        for step in range(self._first_step, plan.steps):
            stage = plan.stage_at(step)
            first_of_step = plan.samples_before(step) + self._skipped_samples
            targets = self._samples.targets_in(first_of_step, stage.global_batch_size)
            for micro_step in range(stage.gradient_accumulation_steps):
                first = first_sample(plan, step, micro_step, self._rank) + self._skipped_samples
                batch = self._samples.batch(np.arange(first, first + plan.micro_batch_size, dtype=np.int64))
                host = host_batch(
                    batch,
                    attend_across_documents=self._attend,
                    row_length=stage.sequence_length,
                    pin_memory=self._pin,
                )
                yield LoadedBatch(step, micro_step, host, targets)


def pins_memory(device: torch.device) -> bool:
    """Whether batches for this device are worth pinning."""
    return device.type == "cuda"
