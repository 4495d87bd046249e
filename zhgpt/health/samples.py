"""What the model writes: loops, nothing but punctuation, or the training text by heart."""

from zhgpt.health.detector import Detector, Sighting
from zhgpt.health.history import History

REPEATED = 0.5
PUNCTUATION = 0.6
COPIED = 0.25


def loops(history: History) -> Sighting | None:
    """The newest samples repeat themselves, or are mostly punctuation."""
    repeated = history.now("sample_repeated_4gram_share")
    punctuation = history.now("sample_punctuation_share")
    if punctuation is not None and punctuation > PUNCTUATION:
        return Sighting(
            punctuation,
            PUNCTUATION,
            f"{punctuation:.0%} of the characters in the samples are punctuation; prose has a tenth to a fifth.",
            f"样例文本中有 {punctuation:.0%} 的字符是标点；正常文章约占一到两成。",
        )
    if repeated is not None and repeated > REPEATED:
        return Sighting(
            repeated,
            REPEATED,
            f"{repeated:.0%} of the 4-grams in the samples repeat within one sample.",
            f"样例文本中有 {repeated:.0%} 的四字串在同一样例内重复出现。",
        )
    return None


def copies(history: History) -> Sighting | None:
    """The newest samples stand in the training text."""
    share = history.now("memorised_share")
    if share is None or share <= COPIED:
        return None
    return Sighting(
        share,
        COPIED,
        f"{share:.0%} of the 30-character windows in the samples stand in the training text.",
        f"样例文本中有 {share:.0%} 的 30 字窗口原样出现在训练文本里。",
    )


LOOPS = Detector(
    "loops",
    "Loops or punctuation in the samples",
    "样例在重复或只有标点",
    f"more than {PUNCTUATION:.0%} of the samples' characters are punctuation, or more than {REPEATED:.0%} of their "
    "4-grams repeat",
    loops,
    "Early in a run every model does this. If the loss is at the unigram line, see there: the model has learnt only which tokens "
    "are frequent. If the loss is well below it, sample with temperature and top-p (evaluate.temperature) instead of greedily; a "
    "repetition penalty only hides it.",
    "训练初期都会这样。若损失停在词频基准线上，见该条：模型只学到了哪些 token 常见。若损失已明显低于该线，请用温度和 top-p 采样"
    "（evaluate.temperature），不要用贪心解码；重复惩罚只能掩盖问题。",
    "sample_repeated_4gram_share",
    clean_records=1,
)
COPIES = Detector(
    "copies",
    "Samples copied from the training text",
    "样例照抄训练文本",
    f"more than {COPIED:.0%} of the samples' 30-character windows stand in the training text that was searched "
    "(health.memorisation_tokens)",
    copies,
    "The text is read too often, or holds the same passages many times: fewer steps or more text, and zhgpt corpus deduplicate.",
    "文本被重复读了太多遍，或其中有大量相同的段落：减少步数或增加文本，并用 zhgpt corpus deduplicate 去重。",
    "memorised_share",
    clean_records=1,
)
