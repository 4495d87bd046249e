"""What text a plan counts with: the dataset's, where there is one, else what the user states, with what was assumed."""

from __future__ import annotations

from megatron_style_data.manifest import Manifest, load_manifest, path_manifest
from zhgpt.config.data_section import DataSection
from zhgpt.plan.predict import Text
from zhgpt.plan.scaling_curve import BYTES_PER_TOKEN

VOCAB_SIZE = 32_000
"""Where neither a dataset nor the recipe nor the user says it."""


def text_of(data: DataSection | None, text_gb: float | None, vocab_size: int | None) -> Text:
    """The text of a run.

    Args:
        data: the recipe's section; None: no recipe. Datasets that are not there yet are no error: a plan comes first.
        text_gb: UTF-8 text in GB (10^9 bytes) as the user states it; wins over the datasets' size.
        vocab_size: as the user states it; wins over the datasets'.

    Raises:
        BadDataError: a manifest is damaged.
    """
    manifests = _manifests(data)
    assumed = []
    if vocab_size is None and manifests:
        vocab_size = max(manifest.tokenizer.vocab_size for manifest in manifests)
    elif vocab_size is None:
        vocab_size = VOCAB_SIZE
        assumed.append(f"a vocabulary of {VOCAB_SIZE:,} (--vocab-size)")
    tokens = float(sum(manifest.splits["train"].tokens for manifest in manifests)) if manifests else None
    if text_gb is not None:
        measured = sum(manifest.splits["train"].utf8_bytes for manifest in manifests) / tokens if tokens else None
        tokens = text_gb * 1e9 / (measured or BYTES_PER_TOKEN)
        if measured is None:
            assumed.append(f"{BYTES_PER_TOKEN:g} bytes of text a token")
    elif tokens is None:
        assumed.append("enough text for one pass (--text-gb)")
    return Text(tokens, vocab_size, " and ".join(assumed))


def _manifests(data: DataSection | None) -> list[Manifest]:
    """Of all datasets of the recipe; none where one of them is not there yet."""
    prefixes = data.prefixes if data is not None else ()
    if not prefixes or not all(path_manifest(prefix).exists() for prefix in prefixes):
        return []
    return [load_manifest(prefix) for prefix in prefixes]
