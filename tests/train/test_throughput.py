"""What the start says of a precision that the GPU has no units for. Not run on a GPU yet: torch.cuda is a stand-in."""

import pytest
import torch

from zhgpt.train.throughput import precision_notices


@pytest.mark.parametrize(
    ("device", "precision", "capability", "said"),
    [
        ("cuda", "bf16", (7, 0), True),
        ("cuda", "bf16", (8, 0), False),
        ("cuda", "fp16", (7, 0), False),
        ("cpu", "bf16", (7, 0), False),
    ],
)
def test_bf16_without_units_for_it_is_named(
    device: str, precision: str, capability: tuple[int, int], said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    notices = precision_notices(torch.device(device), precision)
    assert len(notices) == said
    assert all("Tesla V100 has no units for it" in notice and "train.precision=fp16" in notice for notice in notices)
