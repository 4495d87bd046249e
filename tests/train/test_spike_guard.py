"""What the spike policy remembers; what it does is in test_spike_policy.py."""

import json
import math

from zhgpt.health.spike_rule import WINDOW
from zhgpt.train.spike_guard import SpikeState


def test_the_state_comes_back_from_a_checkpoint_bit_for_bit() -> None:
    state = SpikeState(losses=[1 / 3, 5.1], norms=[0.1 + 0.2], rate_factor=0.25, skipped_samples=24)
    assert SpikeState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_a_checkpoint_from_before_there_was_a_policy_gives_a_new_state() -> None:
    assert SpikeState.from_json({}) == SpikeState()


def test_the_window_keeps_the_newest_finite_values() -> None:
    state = SpikeState()
    for step in range(WINDOW + 5):
        state.see(float(step), None if step % 2 else 1.0)
    state.see(math.nan, math.inf)
    assert state.losses == [float(step) for step in range(5, WINDOW + 5)]
    assert len(state.norms) == WINDOW // 2 + 3
