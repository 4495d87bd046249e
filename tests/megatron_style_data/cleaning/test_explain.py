"""What --explain says of one document."""

from pathlib import Path

import pytest

from megatron_style_data.cleaning.explain import explain, explanation_lines
from megatron_style_data.errors import BadDataError, MissingInputError

STEPS = {
    "width": None,
    "length": None,
    "language": None,
    "personal_data": None,
    "length@end": {"minimum_characters": 9},
}


def test_a_document_that_is_dropped_shows_every_step_up_to_the_one(write_corpus, make_recipe, story) -> None:
    corpus = write_corpus(
        story,
        "手机壳 充电器 数据线 耳机 蓝牙 音箱 键盘 鼠标 显示器 硬盘 内存 主板 显卡 电源 机箱 "
        "风扇 网卡 散热器 电池 平板 手表 相机 镜头 打印机 扫描仪 投影仪",
    )
    said = list(explanation_lines(explain(make_recipe(corpus, STEPS), f"{corpus}:2")))
    assert said[0].startswith(f"{corpus}:2  ")
    assert [line for line in said if not line.startswith(" ")][1:-1] == ["width: nothing to say", "length", "language"]
    assert any("function_share" in line and ">= 0.03" in line and "DROPPED" in line for line in said)
    assert said[-1] == "verdict: dropped by language: function_share < 0.03, measured 0"


def test_a_document_that_stays_shows_what_was_changed(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(story + "电话１３８００１３８０００。", "utf-8")
    said = list(explanation_lines(explain(make_recipe(write_corpus(story), STEPS), str(text))))
    assert "  changed 11 characters" in said
    assert any(line.startswith("    after:") and "[手机号]" in line for line in said)
    assert said[-1].startswith("verdict: kept")
    assert said.count("length") == said.count("length@end") == 1


def test_the_name_that_samples_give_leads_to_the_document(write_corpus, make_recipe, story) -> None:
    corpus = write_corpus("别的。", story)
    assert explain(make_recipe(corpus), "corpus.jsonl:2").document.text == story


def test_places_and_files_that_are_not_there_are_named(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    corpus = write_corpus(story)
    recipe = make_recipe(corpus)
    with pytest.raises(MissingInputError, match="has no document at line 7"):
        explain(recipe, f"{corpus}:7")
    with pytest.raises(MissingInputError, match="no such file; expected FILE:LINE"):
        explain(recipe, str(tmp_path / "none.jsonl:1"))
    with pytest.raises(MissingInputError, match="no such file; expected FILE:LINE"):
        explain(recipe, str(tmp_path / "none.txt"))
    (tmp_path / "gbk.txt").write_bytes("中文".encode("gbk"))
    with pytest.raises(BadDataError, match="byte 0 is not UTF-8"):
        explain(recipe, str(tmp_path / "gbk.txt"))
