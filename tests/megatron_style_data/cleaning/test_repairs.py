"""Steps that change texts: encoding, width, markup, boilerplate, lines, simplify, personal_data."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.cleaning.steps.encoding import repair_encoding
from megatron_style_data.cleaning.steps.personal_data import is_identity_card
from megatron_style_data.errors import BadDataError, MissingInputError

PUNCTUATION = "，。！？；：、（）《》〈〉「」『』【】〔〕“”‘’……——～·％＋－＝＜＞｜￥"


def test_utf8_that_was_read_as_latin_is_repaired(run_step) -> None:
    broken = "他说：" + "今天天气很好，我们去公园。".encode().decode("cp1252", "replace")
    line = "今天天气很好".encode().decode("latin-1")
    outcome = run_step("encoding", f"前面没坏。\n{line}\n后面也没坏。", maximum_lost_share=None)
    assert outcome.text == "前面没坏。\n今天天气很好\n后面也没坏。"
    assert outcome.changes == 1
    assert repair_encoding(broken)[0].startswith("他说：")


def test_utf8_that_was_read_as_gbk_is_repaired(run_step) -> None:
    # A whole number of pairs of bytes: GBK loses the last byte of other sentences for good.
    sentence = "我们在一起，的确是很好的朋友。好"
    broken = sentence.encode().decode("gb18030")
    assert broken != sentence
    assert run_step("encoding", broken).text == sentence


@pytest.mark.parametrize(
    "text",
    [
        PUNCTUATION,
        "这就是“乱码” `qÃ®Ã¼Ã¶`：字符编码的问题",
        "他说：“好！”——然后……走了（笑）。",
        "Café à Paris，é 是法语字母",
        "ÄÖÜ äöü ß 10 °C",
    ],
)
def test_whole_text_is_not_repaired_by_mistake(run_step, text: str) -> None:
    outcome = run_step("encoding", text)
    assert (outcome.text, outcome.changes, outcome.failed) == (text, 0, None)


@given(st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), max_size=60))
def test_no_text_of_han_characters_is_changed_by_the_repair(text: str) -> None:
    repaired, changes = repair_encoding(text)
    assert changes == 0 or repaired.encode("utf-8").decode("gb18030") in text


def test_text_with_lost_characters_is_dropped_and_one_in_a_thousand_is_kept(run_step, story: str) -> None:
    assert run_step("encoding", story + "\ufffd\ufffd").failed.reason == "lost_share > 0.005"
    assert run_step("encoding", story + "锟斤拷锟斤拷").failed is not None
    assert run_step("encoding", story * 9 + "\ufffd").failed is None


def test_width_changes_letters_digits_and_spaces_and_no_punctuation(run_step) -> None:
    outcome = run_step("width", "ＡＢｃ１２３\u3000" + PUNCTUATION)
    assert outcome.text == "ABc123 " + PUNCTUATION
    assert outcome.changes == 7


def test_width_changes_only_what_is_chosen(run_step) -> None:
    text = "Ａ１\u3000＋a\u200bb"
    assert run_step("width", text, letters=False, spaces=False, invisible=False).text == "Ａ1\u3000＋a\u200bb"
    assert run_step("width", text, symbols=True).text == "A1 +ab"
    nothing = run_step("width", text, letters=False, digits=False, spaces=False, invisible=False)
    assert nothing.text is text


def test_markup_takes_tags_scripts_and_entities_away(run_step) -> None:
    text = '<p class="a">第一段&nbsp;&ldquo;好&rdquo;</p><script>var a = 1;</script><!-- 注释 --><b>第二段</b><br/>末尾'
    assert run_step("markup", text).text == "第一段 “好”\n第二段\n末尾"


@pytest.mark.parametrize(
    "text", ["a < b 而且 c > d", "<你好>", "x<y>z", "AT&T 与 Q&A", "if (a<b) return;", "《<三体>》"]
)
def test_markup_leaves_what_only_looks_like_a_tag(run_step, text: str) -> None:
    outcome = run_step("markup", text)
    assert (outcome.text, outcome.changes) == (text, 0)


def test_markup_leaves_code_alone(run_step) -> None:
    code = "```html\n<div>&lt;</div>\n```"
    assert run_step("markup", f"<b>例子</b>：\n{code}\n用 `<br>` 换行。").text == f"例子：\n{code}\n用 `<br>` 换行。"


def test_markup_turns_links_into_their_text_and_removes_images(run_step) -> None:
    text = "见[维基百科](https://zh.wikipedia.org/wiki/中_(字))和![图](a.png)。**重点**"
    assert run_step("markup", text).text == "见维基百科和。**重点**"
    assert run_step("markup", text, links="keep", images="text", emphasis="text").text == (
        "见[维基百科](https://zh.wikipedia.org/wiki/中_(字))和图。重点"
    )


def test_markup_turns_references_into_their_text_and_removes_their_addresses(run_step) -> None:
    text = "见[维基百科][1]和 [邮件列表][]。![图][2]\n\n[1]: https://example.com/a\n[2]: /a.png\n\n数组 a[0][1] 不变"
    assert run_step("markup", text).text == "见维基百科和 邮件列表。\n\n数组 a[0][1] 不变"
    assert "https://example.com/a" in run_step("markup", text, links="keep").text
    assert run_step("markup", "没有地址的[甲][乙]").changes == 0
    assert run_step("markup", "用[`fetch`][3]和[`a` 的用法](/a)\n\n[3]: /b").text == "用`fetch`和`a` 的用法"


def test_markup_shortens_long_runs_of_one_mark_outside_code(run_step) -> None:
    assert run_step("markup", "标题\n" + "-" * 40 + "\n正文……").text == "标题\n---\n正文……"
    assert run_step("markup", "标题\n" + "-" * 40, shorten_runs=False).changes == 0


def test_a_page_of_nothing_but_links_is_dropped(run_step) -> None:
    page = "".join(f"[第{number}页](https://example.com/a/long/address/{number})" for number in range(20))
    assert run_step("markup", page).failed.reason == "markup_share > 0.7"


BOILERPLATE = [
    "版权所有 未经授权不得转载",
    "责任编辑：王某",
    "编辑：小李 审核：老张",
    "点击下载附件",
    "扫描下方二维码关注我们",
    "上一篇：没有了",
    "首页 | 新闻 | 体育 | 登录",
    "分享到：微博 微信",
    "京ICP备00000000号",
    "来源：某某网",
    "(完)",
    "转载请注明出处",
]


@pytest.mark.parametrize("line", BOILERPLATE)
def test_boilerplate_lines_go_and_the_text_stays(run_step, story: str, line: str) -> None:
    outcome = run_step("boilerplate", f"{story}\n{line}")
    assert (outcome.text, outcome.changes) == (story, 1)


@pytest.mark.parametrize(
    "line",
    [
        "他把登录的密码忘了，只好打电话去问。",
        "这篇文章的责任编辑是一位很有经验的老师。",
        "完了，全完了！",
        "版权所有这四个字，在出版业里已经用了一百多年，可是真正懂得它的意思的人并不多，下面就来说一说它的来历，以及它在今天的法律里到底还有没有什么用处。",
        "上一页写到，他离开了村子。",
        "调用这个函数，返回列表。",
        "在设置里点击下载按钮，等它装好，再重启电脑。",
    ],
)
def test_sentences_about_the_same_matter_stay(run_step, line: str) -> None:
    outcome = run_step("boilerplate", line)
    assert (outcome.text, outcome.changes) == (line, 0)


def test_the_editor_in_brackets_at_the_end_of_a_paragraph_goes(run_step, story: str) -> None:
    assert run_step("boilerplate", story + "（责任编辑：李某）").text == story


def test_text_that_is_mostly_boilerplate_is_dropped(run_step) -> None:
    assert run_step("boilerplate", "\n".join([*BOILERPLATE, "正文只有一句。"])).failed.name == "boilerplate_share"


def test_phrases_of_a_file_remove_lines_too(run_step, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("# 我们自己的\n欢迎光临本店\n", "utf-8")
    assert run_step("boilerplate", "正文。\n欢迎光临本店！", phrases=phrases).text == "正文。"


def test_a_file_of_phrases_that_is_missing_empty_or_gbk_is_named(run_step, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.txt: no such file; expected phrases"):
        run_step("boilerplate", "", phrases=tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("# 没有\n")
    with pytest.raises(BadDataError, match=r"empty\.txt: holds no phrase"):
        run_step("boilerplate", "", phrases=tmp_path / "empty.txt")
    (tmp_path / "gbk.txt").write_bytes("广告".encode("gbk"))
    with pytest.raises(BadDataError, match=r"gbk\.txt: byte 0 is not UTF-8"):
        run_step("boilerplate", "", phrases=tmp_path / "gbk.txt")


def test_a_line_said_twice_in_a_row_is_removed_and_others_only_by_choice(run_step, story: str) -> None:
    text = f"{story}\n\n{story}\n答：\n答：\n第一件事。\n{story}"
    assert run_step("lines", text).text == f"{story}\n\n答：\n答：\n第一件事。\n{story}"
    everywhere = run_step("lines", text, remove="all", maximum_repeated_line_share=None)
    assert (everywhere.text, everywhere.changes) == (f"{story}\n\n答：\n答：\n第一件事。", 2)
    assert run_step("lines", text, remove="none").text is text


def test_lines_of_code_may_repeat(run_step, story: str) -> None:
    text = f"{story}\n```\n    print(1234567890)\n    print(1234567890)\n```\n完。"
    outcome = run_step("lines", text, remove="all")
    assert (outcome.text, outcome.measures[0].value) == (text, 0)


def test_text_of_repeated_lines_is_dropped(run_step) -> None:
    assert run_step("lines", "\n".join(["这一行说了又说，一直说下去。"] * 5)).failed.name == "repeated_line_share"
    assert run_step("lines", "\n\n\n").failed is None


def test_the_share_of_ended_lines_is_a_threshold_by_choice(run_step) -> None:
    menu = "首页\n新闻中心\n产品展示\n联系方式"
    assert run_step("lines", menu).failed is None
    assert run_step("lines", menu, minimum_ended_line_share=0.3).failed.reason == "ended_line_share < 0.3"


def test_traditional_text_is_simplified_and_names_in_simplified_text_stay(run_step) -> None:
    assert run_step("simplify", "這個軟體開發團隊寫了很多說明書。").text == "这个软体开发团队写了很多说明书。"
    assert run_step("simplify", "這個軟體很好用。", conversion="tw2sp").text == "这个软件很好用。"
    simplified = "这本书的封面上印着一个“壹”字和一个“後”字，别的都是简体。" * 3
    assert run_step("simplify", simplified).changes == 0


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("电话13800138000。", "电话[手机号]。"),
        ("+86 138-0013-8000 或 86 13800138000", "[手机号] 或 [手机号]"),
        ("138 0013 8000", "[手机号]"),
        ("证号11010519491231002X", "证号[身份证号]"),
        ("写信到 li.lei+2@mail.example.com.cn，谢谢", "写信到 [邮箱]，谢谢"),
    ],
)
def test_personal_data_become_marks(run_step, text: str, masked: str) -> None:
    assert run_step("personal_data", text).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "圆周率3.13800138000",
        "订单号20138001380001234",
        "12800138000不是手机号",
        "138001380001",
        "110105194912310021",  # the check character is wrong
        "11010519491331002X",  # there is no thirteenth month
        "价格@100元",
        "user@localhost",
        "git@example.com:seth/example.git",
        "scp a.txt seth@example.com:~/public_html",
        "x@header.num_questions(1)",
        "010-12345678",
    ],
)
def test_numbers_that_are_no_personal_data_stay(run_step, text: str) -> None:
    outcome = run_step("personal_data", text)
    assert (outcome.text, outcome.changes) == (text, 0)


def test_a_mark_of_null_leaves_that_kind_alone_and_a_list_of_people_can_be_dropped(run_step) -> None:
    text = "13800138000\n13800138001\na@example.com"
    assert run_step("personal_data", text, phone_mark=None).text == "13800138000\n13800138001\n[邮箱]"
    assert run_step("personal_data", text, maximum_masked=2).failed.reason == "masked > 2"


def test_the_checksum_of_identity_cards_is_that_of_the_standard() -> None:
    assert is_identity_card("11010519491231002X")  # the standard's own example
    assert is_identity_card("11010519491231002x")
    assert not is_identity_card("110105194912310029")
