"""Does an export compute what the engine computed?"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError
from zhgpt.model.transformer import CausalLM

# Allowed root mean square of the differences, as a share of the spread of the expected logits: rounding of another
# order of summation in fp32; of 8 or 11 bits in every layer in bf16 and fp16 (bf16 measured: 0.005 to 0.035).
TOLERANCES: dict[str, float] = {"fp32": 2.5e-5, "bf16": 0.05, "fp16": 0.005}
# A mixture in bf16 or fp16 sends tokens near a tie to other experts than in fp32. Such a position differs by what an expert
# says, not by rounding, and this share of the positions, the closest ones, is what must agree (measured in bf16, random
# weights, 12 layers of 64 experts: 0.03 to 0.04 at the median and 0.2 to 0.26 at the worst position).
ROUTED_ALIKE = 0.5
# A single logit may differ by this times the tolerance, as a share of the largest logit (at least 1).
OUTLIER_FACTOR = 4.0


def verify_export(out_dir: Path, probe_tokens: Tensor, engine_logits: Tensor, tolerance: float) -> float:
    """Load the export with transformers on the CPU in fp32 and compare its logits with the engine's.

    Args:
        out_dir: a folder that ``AutoModelForCausalLM`` loads.
        probe_tokens: (B, S) int64.
        engine_logits: (B, S, vocab_size).
        tolerance: see ``TOLERANCES``.

    Returns:
        The largest absolute difference of the logits.

    Raises:
        BadDataError: they differ by more, or transformers found weights missing or unknown.
    """
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(out_dir, dtype=torch.float32, output_loading_info=True)
    module, loading = loaded
    problems = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    if problems:
        raise BadDataError(f"{out_dir}: transformers does not find the model's own weights in the export: {problems}.")
    module.eval()
    with torch.no_grad():
        logits = module(probe_tokens).logits
    return compare_logits(logits, engine_logits, tolerance, f"{out_dir}: the export's logits")


def fp32_logits(state_dict: Mapping[str, Tensor], model: ModelSection, tokens: Tensor) -> Tensor:
    """Logits (B, S, vocab_size) of the checkpoint's weights in our own model, in fp32 on the CPU, without a copy of them."""
    module = own_model(model)
    module.load_state_dict({name: tensor.float() for name, tensor in state_dict.items()}, assign=True)
    with torch.no_grad():
        logits: Tensor = module(tokens)
    return logits


def own_model(model: ModelSection) -> CausalLM:
    """Our own model for reading logits, without memory for its weights; a mixture is the plain loop that drops no token."""
    if model.moe is not None:
        model = model.model_copy(update={"moe": model.moe.model_copy(update={"layer": "reference"})})
    with torch.device("meta"):
        return CausalLM(model, "sdpa").eval()


def compare_logits(found: Tensor, expected: Tensor, tolerance: float, what: str, share: float = 1.0) -> float:
    """Return the largest absolute difference of two (B, S, vocab_size) logits.

    Args:
        found: logits.
        expected: the engine's.
        tolerance: see ``TOLERANCES``.
        what: names ``found`` in the message.
        share: of the positions, the closest ones, that must agree.

    Raises:
        BadDataError: they differ by more than rounding.
    """
    if found.shape != expected.shape:
        raise BadDataError(f"{what} have shape {list(found.shape)}, the engine's {list(expected.shape)}.")
    expected = expected.float()
    differences = (found.float() - expected).abs()
    largest = float(differences.max())
    spread = float((expected - expected.mean(-1, keepdim=True)).square().mean().sqrt())
    squares, order = differences.square().mean(-1).flatten().sort()  # a NaN sorts last
    compared = order[: max(1, math.ceil(share * len(order)))]
    relative = float(squares[: len(compared)].mean().sqrt()) / max(spread, 1e-6)
    outlier = float(differences.flatten(0, 1)[compared].max()) / max(1.0, float(expected.abs().max()))
    if relative <= tolerance and outlier <= OUTLIER_FACTOR * tolerance:
        return largest
    row, position = divmod(int(differences.amax(-1).argmax()), expected.shape[1])
    raise BadDataError(
        f"{what} differ from the engine's by up to {largest:.3g} (sequence {row}, position {position} of the probe; root "
        f"mean square {relative:.2g} of their spread, allowed {tolerance:.2g}): this is not the model that was trained."
    )
