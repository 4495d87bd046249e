"""Steps that only judge: length, characters, language, repetition, blocklist; and the arithmetic below them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.cleaning.code_points import (
    class_counts,
    class_counts_reference,
    code_points,
    letters_and_digits,
)
from megatron_style_data.cleaning.steps import STEPS
from megatron_style_data.cleaning.steps.blocklist import host_of
from megatron_style_data.cleaning.windows import (
    most_frequent_share,
    no_window_twice,
    repeated_share,
    repeated_share_reference,
    window_hashes,
)
from megatron_style_data.errors import SettingError

JAPANESE = "これは日本語の文章です。漢字も少し使いますが、ひらがなが多いです。今日は天気がいいですね。"
KEYWORDS = (
    "手机壳 充电器 数据线 耳机 蓝牙 音箱 键盘 鼠标 显示器 硬盘 内存 主板 显卡 电源 机箱 风扇 散热器 网卡 路由器 交换机"
)
POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def test_length_counts_characters_without_spaces_and_keeps_its_bounds(run_step) -> None:
    assert run_step("length", "十个字的一段话在这里 \n \u3000", minimum_characters=10).failed is None
    assert run_step("length", "九个字的一段话在这", minimum_characters=10).failed.reason == "characters < 10"
    assert run_step("length", "字" * 11, minimum_characters=None, maximum_characters=10).failed.value == 11


def test_running_chinese_passes_every_filter(run_step, story: str) -> None:
    for name in ("length", "characters", "language", "repetition", "lines", "boilerplate", "markup", "encoding"):
        assert run_step(name, story).failed is None, name


def test_verse_and_classical_prose_pass(run_step) -> None:
    classical = "子曰：“学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？”"
    for text in (POEM, classical):
        for name in ("characters", "language", "repetition"):
            assert run_step(name, text).failed is None, (name, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("English words only, nothing else is here.", "cjk_share < 0.3"),
        ("表：1234 5678 9012 3456 7890 1122 元元元元元元元元元元元元元元元元", "digit_share > 0.3"),
        ("★★★★★☆☆☆■■■■好东西好东西好东西大家快来看", "symbol_share > 0.25"),
        ("好。。。。。。。。！！！！！！！！是的", "cjk_share < 0.3"),
    ],
)
def test_shares_of_characters_drop(run_step, text: str, reason: str) -> None:
    assert run_step("characters", text).failed.reason == reason


def test_a_bound_of_null_is_no_bound(run_step) -> None:
    assert run_step("characters", "English words only", minimum_cjk_share=None, maximum_latin_share=None).failed is None


def test_the_least_share_of_punctuation_is_by_choice(run_step) -> None:
    assert run_step("characters", KEYWORDS).failed is None
    assert run_step("characters", KEYWORDS, minimum_punctuation_share=0.01).failed.name == "punctuation_share"


def test_language_knows_japanese_keywords_and_english(run_step, story: str) -> None:
    assert run_step("language", JAPANESE).failed.name in ("chinese_share", "kana_share")
    assert run_step("language", story + JAPANESE).failed.name == "kana_share"
    assert run_step("language", KEYWORDS).failed.reason == "function_share < 0.03"
    assert run_step("language", "Mostly English with 两三个 words of Chinese in it").failed.name == "chinese_share"
    assert run_step("language", "用 Python 写一个 web 服务器，其实只要 Flask 和几行代码就够了。").failed is None


def test_repetition_drops_spam_and_keeps_a_refrain(run_step, story: str) -> None:
    assert run_step("repetition", "加微信领红包" * 50).failed is not None
    assert run_step("repetition", (story[:30] + "。") * 4).failed is not None
    assert run_step("repetition", story + "\n风雨送春归。\n" + story[60:80]).failed is None


def test_repetition_measures_a_long_text_in_stretches(run_step) -> None:
    varied = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(5000))
    far_apart = run_step("repetition", varied * 3)
    assert (far_apart.failed, far_apart.measures[1].value) == (None, 0)
    assert run_step("repetition", varied * 3, window_characters=15000).failed is not None
    half_spam = run_step("repetition", varied + "买买买买快来买" * 714)
    assert half_spam.measures[2].value == pytest.approx(0.5, abs=0.01)


def test_numbers_are_no_repetition(run_step, story: str) -> None:
    assert run_step("repetition", story + "11111111.00000000 255.255.255.0 " * 40).failed is None


def test_punctuation_and_spaces_are_no_repetition(run_step) -> None:
    assert run_step("repetition", "——————————……………………\n\n\n\n一二三四五六七").failed is None
    assert run_step("repetition", "").failed is None


@given(st.text(alphabet="中文字ab", max_size=60), st.integers(1, 12))
def test_repeated_share_is_that_of_a_set_of_strings(text: str, length: int) -> None:
    assert repeated_share(code_points(text), length) == pytest.approx(repeated_share_reference(text, length))


@given(st.text(alphabet="中文字ab", max_size=60), st.integers(1, 12))
def test_a_short_text_without_a_window_twice_repeats_nothing(text: str, length: int) -> None:
    codes = code_points(text)
    assert no_window_twice(codes, length) == (repeated_share(codes, length) == most_frequent_share(codes, length) == 0)


def test_a_long_text_is_not_said_to_be_without_a_window_twice() -> None:
    assert not no_window_twice(np.arange(0x4E00, 0x4E00 + 401, dtype=np.uint32), 4)


@given(st.text(alphabet="中文字ab", max_size=60), st.integers(1, 12))
def test_windows_have_the_same_hash_if_and_only_if_they_are_the_same(text: str, length: int) -> None:
    windows = [text[start : start + length] for start in range(len(text) - length + 1)]
    hashes = window_hashes(code_points(text), length).tolist()
    assert len(hashes) == len(windows)
    assert len(set(zip(windows, hashes, strict=True))) == len(set(windows)) == len(set(hashes))


def test_the_most_frequent_ngram_counts_only_if_it_comes_twice() -> None:
    assert most_frequent_share(code_points("啊啊啊啊啊啊啊啊一二三四五六七八"), 4) == 0.5
    assert most_frequent_share(code_points("一二三四五六"), 4) == 0
    assert most_frequent_share(code_points("一二三四一二三四"), 4) == 1.0
    assert most_frequent_share(code_points("一"), 4) == 0


@given(st.text(max_size=80))
def test_classes_of_characters_are_those_found_one_by_one(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert list(class_counts(text)) == class_counts_reference(text)


def test_letters_and_digits_leave_out_the_rest_and_ignore_case() -> None:
    assert np.array_equal(letters_and_digits("中 A，b1。\n—★"), code_points("中ab1"))


def test_blocklist_counts_different_phrases(run_step, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("百家乐\n六合彩\n", "utf-8")
    assert run_step("blocklist", "新闻：警方查处六合彩，六合彩害人。", phrases=phrases).failed is None
    failed = run_step("blocklist", "百家乐、六合彩，等你来玩", phrases=phrases).failed
    assert (failed.reason, failed.detail) == ("blocked_phrases > 1", "百家乐、六合彩")


@pytest.mark.parametrize(
    ("address", "dropped"),
    [
        ("https://www.bad.example/a", True),
        ("http://bad.example:80/x", True),
        ("bad.example", True),
        ("https://notbad.example/", False),
        ("http://[half", False),
        ("", False),
    ],
)
def test_blocklist_knows_hosts_and_their_subdomains(run_step, tmp_path: Path, address: str, dropped: bool) -> None:
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("bad.example\n", "utf-8")
    assert (run_step("blocklist", "文", {"url": address}, hosts=hosts).failed is not None) == dropped


def test_the_host_is_read_from_the_field_that_is_named(run_step, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("bad.example\n", "utf-8")
    fields = {"url": "https://good.example", "页面": "https://bad.example"}
    assert run_step("blocklist", "文", fields, hosts=hosts, url_field="页面").failed.detail == "bad.example"
    assert host_of("HTTPS://A.Example./x") == "a.example"


def test_blocklist_without_a_list_is_refused(run_step) -> None:
    with pytest.raises(SettingError, match="step blocklist has no list"):
        run_step("blocklist", "文")


def test_every_threshold_is_named_after_what_it_bounds(run_step, story: str, tmp_path: Path) -> None:
    needed = {"phrases": "广告"}
    (tmp_path / "list.txt").write_text(needed["phrases"], "utf-8")
    (tmp_path / "set.jsonl").write_text('{"question": "' + story[:60] + '"}', "utf-8")
    more = {
        "blocklist": {"phrases": tmp_path / "list.txt"},
        "decontamination": {"against": [str(tmp_path / "set.jsonl")]},
    }
    for name, kind in STEPS.items():
        measured = {measure.name for measure in run_step(name, story, **more.get(name, {})).measures}
        bounds = {
            key.split("_", 1)[1] for key in kind.settings.model_fields if key.startswith(("minimum_", "maximum_"))
        }
        assert bounds - measured == set(), name
