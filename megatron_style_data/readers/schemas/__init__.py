"""The corpora whose records are known; ``auto`` takes the first that recognises a record, so special ones come first."""

from collections.abc import Mapping
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

__all__ = ["SCHEMAS", "Extracted", "Record", "Schema"]
