"""BAAI's Chinese Corpora Internet: CCI 1, CCI 2 (Parquet) and CCI 3 with ``content``, CCI 3-HQ with ``text``."""

from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.schemas.schema import Extracted, Record, Schema, has, one_string, parsed

_content = one_string("content")


def _extract(record: Record, options: ReadOptions) -> Extracted | str:
    found = _content(record, options)
    if isinstance(found, str) or "meta_info" not in found.fields:
        return found
    return Extracted(found.text, {**found.fields, "meta_info": parsed(found.fields["meta_info"])})


CCI = Schema(
    "BAAI CCI 1, 2 and 3: id, content, in CCI 3 meta_info",
    lambda record: has(record, "id", "content") and set(record) <= {"id", "content", "meta_info"},
    _extract,
    fits=lambda record: "content" in record,
    text_field="content",
)
CCI3_HQ = Schema(
    "BAAI CCI 3-HQ: id, text, score",
    lambda record: set(record) == {"id", "text", "score"},
    one_string("text"),
    text_field="text",
)
