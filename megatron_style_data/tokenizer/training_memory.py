"""How much memory a training will need, before it starts."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from megatron_style_data.tokenizer.bpe_training import OURS_FROM_CHARACTERS

# Bytes of the process for nothing, and for a byte of the sample, rounded up from the peaks measured on 50 and 64 MB of
# Chinese text at 32,000 tokens (docs/tokenizer.md); unigram: 12.5 on 16 MB. An estimate for other text and sizes.
_FOR_NOTHING = 150_000_000
_BYTES_PER_BYTE: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("bpe", "numba"): 22.0,
        ("bpe", "hf"): 80.0,
        ("sentencepiece", "auto"): 26.0,
        ("sentencepiece-unigram", "auto"): 20.0,
    }
)
_BYTES_PER_CHARACTER = 3

_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def training_memory(kind: str, trainer: str, sample_bytes: int) -> int:
    """About the peak memory of a training in bytes, the sample included.

    Args:
        kind: A key of ``training.TRAINERS``.
        trainer: One of its trainers.
        sample_bytes: UTF-8 bytes of the sample.
    """
    if kind == "bpe" and trainer == "auto":
        trainer = "numba" if sample_bytes >= _BYTES_PER_CHARACTER * OURS_FROM_CHARACTERS else "hf"
    return _FOR_NOTHING + int(_BYTES_PER_BYTE[kind, trainer] * sample_bytes)


def free_memory() -> int | None:
    """Bytes of memory that this process can still get, on the machine and in its container; None where nobody says."""
    found = []
    if _MACHINE.is_file():
        fields = dict(line.split(":", 1) for line in _MACHINE.read_text().splitlines() if ":" in line)
        if "MemAvailable" in fields:
            found.append(1024 * int(fields["MemAvailable"].split()[0]))
    most, used = _CONTAINER / "memory.max", _CONTAINER / "memory.current"
    if most.is_file() and used.is_file() and most.read_text().strip().isdigit():
        found.append(max(0, int(most.read_text()) - int(used.read_text())))
    return min(found, default=None)
