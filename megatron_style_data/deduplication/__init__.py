"""Deduplication: documents with the same characters, and near-duplicates by MinHash over character 5-grams."""

from megatron_style_data.deduplication.duplicates import DuplicateCounts, Duplicates, Example, find_duplicates
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.shards import CleanShard, CorpusShard

__all__ = [
    "CleanShard",
    "CorpusShard",
    "DuplicateCounts",
    "DuplicateSettings",
    "Duplicates",
    "Example",
    "find_duplicates",
]
