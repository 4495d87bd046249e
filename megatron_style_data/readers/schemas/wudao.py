"""WuDaoCorpora: one JSON array a file, or that array as RECORDS; title and content."""

from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.schemas.schema import Extracted, Record, Schema, has, joined, rest, string_or_why


def _extract(record: Record, options: ReadOptions) -> Extracted | str:
    content, why = string_or_why(record, "content")
    if why is not None:
        return why
    fields = {"category" if name == "dataType" else name: value for name, value in rest(record, "content").items()}
    return Extracted(joined(record.get("title"), content), fields)


WUDAO = Schema(
    "WuDaoCorpora: uniqueKey, titleUkey, dataType, title, content",
    lambda record: has(record, "content") and any(name in record for name in ("uniqueKey", "titleUkey", "dataType")),
    _extract,
)
