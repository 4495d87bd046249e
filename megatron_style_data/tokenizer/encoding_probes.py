"""Texts on which two encoders are compared before one may stand in for the other: everything that has cuts of its own."""


def encoding_probes(names: list[str]) -> list[str]:
    """About 40 kB of texts, the same at every call.

    Args:
        names: Names of the tokenizer's special tokens; as text they must be text to both encoders.
    """
    return [
        *_MIXED,
        *(f"一{name}二 {name}{name}" for name in names[:64]),
        # Every code point of two UTF-8 bytes, and samples of those of three and four: all lead and most other bytes.
        "".join(map(chr, (*range(1, 0x250), *range(0x250, 0x800, 3)))),
        "".join(map(chr, (*range(0x800, 0xD800, 61), *range(0xE000, 0x10000, 61)))),
        "".join(map(chr, range(0x10000, 0x110000, 4093))),
        "".join(chr(number) + " " for number in range(0x4E00, 0x9FFF, 97)),
        *(unit * 1200 for unit in _LONG_RUNS),
        *(space * count + "字" for space in _SPACES for count in (1, 2, 3, 17)),
        *("字" + space * count for space in _SPACES for count in (1, 2, 17)),
    ]


_LONG_RUNS = ("中", "a", " ", "\n", "。", "1", "=-", "哈哈，", "\u3000", "😀", "村民们都很高兴", "e\u0301")
_SPACES = (" ", "\t", "\n", "\u3000", "\xa0", "\u2009", "\n\n", " \n", "\n ")
_MIXED = (
    "",
    " ",
    "他说：“好。”她没说话……——《三国演义》·第一回（上）、【注】！？；",
    "𠮷野家、𡃁仔、龘靐齉、㐀㐁、豈更車、〇一二三",
    "e\u0301a\u0300ö \u0e19\u0e49\u0e33 한국어 \u1112\u1161\u11ab かな\u3099 नमस्ते العربية עברית",
    "👨\u200d👩\u200d👧\u200d👦👍🏽🇨🇳❤\ufe0f1\ufe0f\u20e3 ☺😂🤣",
    "2024年3月15日，GDP增长5.2%，约￥1,234,567.89元；ｆｕｌｌ　ｗｉｄｔｈ１２３",
    "It's we'll I'M THEY'RE don't 'tis o'clock ’s ’T it'S x'sd x'ſy 'LLa a'ﬅ",
    "def f(x):\n\treturn x ** 2  # 平方\n\n\n    if not x:\r\n        pass\n",
    "https://example.cn/路径?q=中文&p=%E4%B8%AD#锚 a@b.cn C++ C# .NET 3.14e-10 0x1F",
    "- [ ] **加粗** `代码` | 表 | 格 |\n|---|---|\n\n> 引用\n\n```\nx\n```",
    "\u200b\u200c\u200d\u2060零宽\u00ad软连字\ufe0e\u034f",
    "\x01\x02\x1b[0m\x7f\x80\x9f\ufffd\ufffe\uffff",
    "ÀÁÂ ǅ ß ſ İ ı Ω Ω K ﬁ ½ ² Ⅷ ① ㊣ ℃",
    " 前空格  两个   三个 ，  逗号。 \n 行首\n  两格\n\n",
    "a1b2c3中4文5 1a2b 第12章 12345678901234567890",
)
