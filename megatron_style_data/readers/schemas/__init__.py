"""The corpora whose records are known; ``auto`` takes the first that recognises a record, so special ones come first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from megatron_style_data.readers.schemas.cci import CCI, CCI3_HQ
from megatron_style_data.readers.schemas.dialogue import DIALOGUE, PAIRS
from megatron_style_data.readers.schemas.mnbvc import MNBVC, MNBVC_CODE, MNBVC_FORUM, MNBVC_PARALLEL, MNBVC_QA
from megatron_style_data.readers.schemas.nlp_chinese_corpus import BAIKE, NEWS, WEBTEXT, WIKI
from megatron_style_data.readers.schemas.schema import Extracted, Record, Schema
from megatron_style_data.readers.schemas.web import C4, SKYPILE
from megatron_style_data.readers.schemas.wudao import WUDAO

SCHEMAS: Mapping[str, Schema] = MappingProxyType(
    {
        "mnbvc_parallel": MNBVC_PARALLEL,
        "mnbvc": MNBVC,
        "mnbvc_qa": MNBVC_QA,
        "mnbvc_forum": MNBVC_FORUM,
        "mnbvc_code": MNBVC_CODE,
        "smoltalk_chinese": DIALOGUE,
        "question_answer": PAIRS,
        "wudao": WUDAO,
        "nlp_chinese_news": NEWS,
        "nlp_chinese_webtext": WEBTEXT,
        "nlp_chinese_baike": BAIKE,
        "nlp_chinese_wiki": WIKI,
        "cci3_hq": CCI3_HQ,
        "cci": CCI,
        "c4": C4,
        "skypile": SKYPILE,
    }
)


def schema_of(records: Sequence[Record], name: str) -> tuple[str | None, str]:
    """The schema that recognises most of the first records, and why; None for a corpus that is not known.

    Args:
        records: The first records.
        name: The file's name and folders, in lower case, which decide where records alone do not.
    """
    found = Counter(_schema_of_record(record) for record in records)
    best, times = found.most_common(1)[0] if found else (None, 0)
    if best is not None:
        return best, f"{times} of the first {len(records)} records look like {SCHEMAS[best].corpus}"
    for key, schema in SCHEMAS.items():
        says = schema.names.search(name) if schema.names is not None else None
        if says and schema.fits is not None and records and all(map(schema.fits, records)):
            return key, f"the name says {key}, and the first {len(records)} records fit it"
    return None, "no known corpus" if records else "no record can be read"


def _schema_of_record(record: Record) -> str | None:
    return next((name for name, schema in SCHEMAS.items() if schema.recognises(record)), None)


__all__ = ["SCHEMAS", "Extracted", "Record", "Schema", "schema_of"]
