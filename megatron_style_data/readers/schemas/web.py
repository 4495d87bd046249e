"""Web text: allenai's C4 and mC4 (``c4-zh.tfrecord-….json.gz`` is JSON lines in spite of its name), and SkyPile."""

import re

from megatron_style_data.readers.schemas.schema import Schema, has, one_string

C4 = Schema(
    "C4 or mC4: text, timestamp, url",
    lambda record: has(record, "text", "timestamp", "url"),
    one_string("text", time="timestamp"),
    fits=lambda record: isinstance(record.get("text"), str),
    names=re.compile(r"(?:^|[^a-z0-9])m?c4(?:[^a-z0-9]|$)"),
    text_field="text",
)
SKYPILE = Schema(
    "SkyPile: text alone",
    lambda record: False,  # any corpus may have text alone: the name decides
    one_string("text"),
    fits=lambda record: set(record) == {"text"},
    names=re.compile(r"skypile|(?:^|/)\d{4}-\d\d_zh_[a-z]+_\d+"),
    text_field="text",
)
