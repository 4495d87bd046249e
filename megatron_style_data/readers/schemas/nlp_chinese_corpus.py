"""brightmart's nlp_chinese_corpus: wiki2019zh, news2016zh, webtext2019zh and baike2018qa, JSON lines."""

from collections.abc import Callable

from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.schemas.schema import Extracted, Record, Schema, has, joined, rest, string_or_why


def _titled(
    body: str, *before: str, between: str = "\n", id: str = "id"
) -> Callable[[Record, ReadOptions], Extracted | str]:
    """Title (and other parts) before the body, which must be there; a part that the next one repeats is left out."""

    def extract(record: Record, options: ReadOptions) -> Extracted | str:
        text, why = string_or_why(record, body)
        if why is not None:
            return why
        head = joined(*(record.get(name) for name in before))
        fields = {"id" if name == id else name: value for name, value in rest(record, body).items()}
        return Extracted(joined(head, text, between=between), fields)

    return extract


WIKI = Schema(
    "nlp_chinese_corpus wiki2019zh: id, url, title, text",
    lambda record: has(record, "id", "url", "title", "text") and len(record) == 4,
    _titled("text", "title"),
)
NEWS = Schema(
    "nlp_chinese_corpus news2016zh: news_id, title, content, keywords, desc, source, time",
    lambda record: has(record, "news_id", "content"),
    _titled("content", "title", id="news_id"),
)
WEBTEXT = Schema(
    "nlp_chinese_corpus webtext2019zh: qid, title, desc, topic, star, content, answer_id, answerer_tags",
    lambda record: has(record, "qid", "title", "content"),
    _titled("content", "title", "desc", between="\n\n", id="qid"),
)
BAIKE = Schema(
    "nlp_chinese_corpus baike2018qa: qid, category, title, desc, answer",
    lambda record: has(record, "qid", "title", "answer"),
    _titled("answer", "title", "desc", between="\n\n", id="qid"),
)
