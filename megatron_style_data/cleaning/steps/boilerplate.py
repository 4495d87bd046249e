"""Step ``boilerplate``: removes lines that belong to the page and not to the text: 责任编辑, 版权所有, 点击下载 ..."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.phrase_files import read_phrases
from megatron_style_data.cleaning.steps.settings import Positive, Share, StepSettings

# Anywhere in a short line.
_INSIDE = (
    "版权所有",
    "All [Rr]ights [Rr]eserved",
    "未经.{0,12}(?:授权|许可|允许|同意|书面).{0,12}(?:不得|禁止|严禁|请勿)(?:转载|复制|使用|摘编|镜像)",
    "(?:转载|引用).{0,6}请.{0,4}注明(?:出处|来源)",
    "^[^，。；]{0,12}点击(?:下载|进入|查看|这里|此处|链接|上方|下方|图片|阅读|关注|收藏)[^，。；]{0,20}$",
    "(?:扫描|扫一扫|长按|识别).{0,8}二维码",
    "关注.{0,12}(?:公众号|微信号|官方微[博信])",
    "[京沪粤浙苏闽川渝津鲁豫鄂湘皖赣冀晋辽吉黑陕甘桂琼滇黔蒙宁青新藏]ICP[备证]",
    "公网安备",
    "(?:增值电信业务|网络文化|互联网新闻信息服务).{0,4}(?:经营)?许可证",
    "(?:违法和?不良信息)?举报(?:电话|邮箱|热线)[:：]",
    "(?:打印|关闭)(?:本页|窗口|此页)",
    "(?:设为首页|加入收藏|网站地图|联系我们.{0,6}关于我们|关于我们.{0,6}联系我们)",
    "(?:阅读|查看|点击)(?:原文|全文|更多)$",
    "本(?:文|站).{0,10}(?:仅代表|不代表).{0,8}(?:作者|本[站网报刊人]).{0,6}(?:观点|立场)",
    "浏览器(?:版本|不支持).{0,12}(?:升级|更换|建议)",
)
# The whole line.
_WHOLE = (
    "[（(【\\[]?(?:责任|本文|文字|执行|美术)?(?:编辑|校对|审核|责编)[:：丨｜ ].{0,20}",
    "(?:上一篇|下一篇|上一页|下一页|上一章|下一章)(?:[:：].{0,40})?",
    "(?:首页|尾页|登录|注册|搜索|分享|收藏|评论|打印|关闭|更多|返回|目录|赞|点赞|转发|举报|展开|收起|顶|踩|回复)"
    "(?:[ |｜/>›»·]+\\S{1,6}){0,12}",
    "分享到[:：]?.{0,40}",
    "[\\[<《【 ]{0,3}返回(?:首页|顶部|目录|列表|上一页)[\\]>》】 ]{0,3}",
    "(?:相关(?:阅读|新闻|链接|推荐|文章)|推荐阅读|热门推荐|猜你喜欢|延伸阅读|更多精彩)[:：]?.{0,10}",
    "(?:(?:发布|更新|发表)(?:时间|日期)|浏览(?:次数|量)?|阅读(?:次数|量)?|点击(?:次数|数|率)|来源)[:：] ?.{0,40}",
    "[（(]?(?:完|全文完|未完待续)[)）]?",
)
_TAIL = re.compile(r"[（(【\[]\s*(?:责任)?(?:编辑|校对|责编)\s*[:：][^（()）】\]\n]{1,20}[)）】\]]")


class BoilerplateSettings(StepSettings):
    """Settings of ``boilerplate``."""

    longest_line: Positive = Field(
        default=60,
        description="Longest line that a phrase inside it removes; a longer one is a paragraph about the matter.",
    )
    phrases: Path | None = Field(
        default=None, description="A file of further phrases, one a line; they remove short lines."
    )
    maximum_boilerplate_share: Share | None = Field(
        default=0.5, description="Largest share of the characters that may be such lines."
    )


def prepare(settings: BoilerplateSettings) -> StepFunction:
    """The step with these settings.

    Raises:
        MissingInputError: The file of phrases does not exist.
        BadDataError: It holds no phrase.
    """
    own = [re.escape(phrase) for phrase in read_phrases(settings.phrases)] if settings.phrases else []
    inside, whole = re.compile("|".join([*_INSIDE, *own])), re.compile("|".join(_WHOLE))
    longest = settings.longest_line

    def is_boilerplate(line: str) -> bool:
        line = line.strip()
        return 0 < len(line) <= longest and bool(inside.search(line) or whole.fullmatch(line))

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        lines = text.split("\n")
        kept = [line for line in lines if not is_boilerplate(line)]
        left, tails = _TAIL.subn("", "\n".join(kept) if len(kept) < len(lines) else text)
        changes = len(lines) - len(kept) + tails
        removed = (len(text) - len(left)) / max(1, len(text))
        measure = Measure("boilerplate_share", removed, high=settings.maximum_boilerplate_share)
        return Outcome(left.strip("\n") if changes else text, (measure,), changes)

    return run
