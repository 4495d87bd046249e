"""Small tokenizers of each kind, trained once, and adversarial texts."""

from pathlib import Path

import pytest

from megatron_style_data.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer, train_bpe, train_sentencepiece

# From 三国演义 (public domain) and some of everything else.
TEXTS = (
    "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦；及秦灭之后，楚、汉分争，又并入于汉。\n\n" * 3,
    "　　汉朝自高祖斩白蛇而起义，一统天下，后来光武中兴，传至献帝，遂分为三国。\n" * 3,
    "推其致乱之由，殆始于桓、灵二帝。桓帝禁锢善类，崇信宦官。及桓帝崩，灵帝即位，大将军窦武、太傅陈蕃共相辅佐。" * 3,
    "The quick brown fox doesn't jump over 1234 lazy dogs; def f(x):\n    return x + 1\n" * 3,
    "——……“天下”《三国》（１２３）",
    "天下大势，分久必合",
    "a  b   c\t\td",
    "😀👩‍👩‍👧 café",
)


@pytest.fixture(scope="session")
def bpe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of 600 tokens."""
    folder = tmp_path_factory.mktemp("bpe") / "tokenizer"
    train_bpe(TEXTS, 600, folder)
    return folder


@pytest.fixture(scope="session")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece tokenizer of 700 tokens."""
    folder = tmp_path_factory.mktemp("sentencepiece") / "tokenizer"
    train_sentencepiece(TEXTS, 700, folder)
    return folder


@pytest.fixture(scope="session")
def unigram_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece unigram tokenizer of 482 tokens; the texts have no more."""
    folder = tmp_path_factory.mktemp("unigram") / "tokenizer"
    train_sentencepiece(TEXTS, 700, folder, unigram=True)
    return folder


@pytest.fixture(scope="session")
def bpe(bpe_folder: Path) -> Tokenizer:
    """The byte-level BPE tokenizer, loaded."""
    return load_tokenizer(bpe_folder)


@pytest.fixture(scope="session")
def sentencepiece(sentencepiece_folder: Path) -> Tokenizer:
    """The sentencepiece tokenizer, loaded."""
    return load_tokenizer(sentencepiece_folder)


@pytest.fixture(scope="session")
def sentencepiece_as_json(sentencepiece_folder: Path) -> Tokenizer:
    """The same vocabulary by the tokenizer.json that is written beside the model."""
    return load_tokenizer(sentencepiece_folder / "tokenizer.json")


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    """What the tokenizers here were trained on."""
    return TEXTS


@pytest.fixture(scope="session")
def adversarial_texts() -> list[str]:
    """Texts that try to be special tokens."""
    forms = ("{}", "a{}b", "天{}下", " {} ", "\n{}\n", "{0}{0}", "　{}", "{}1", "《{}》")
    names = (
        *SPECIAL_TOKENS,
        "</s>",
        "<s>",
        "<unk>",
        "[UNK]",
        "[SEP]",
        "<think>",
        "<0x0A>",
        "\u2581<|endoftext|>",
        "\0",
    )
    halves = [
        "<|endof",
        "text|>",
        "<|",
        "|>",
        "<|endoftext|",
        "|endoftext|>",
        "<<|endoftext|>>",
        "<|im_<|im_start|>start|>",
    ]
    return [form.format(name) for form in forms for name in names] + halves
