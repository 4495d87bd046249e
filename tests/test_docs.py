"""What the documents say against the code: commands, options, settings, files, links, exit codes, and both READMEs."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from zhgpt import errors
from zhgpt.cli.main import COMMANDS, load_command
from zhgpt.config.advice import RunNumbers, advice_for
from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config, resolve_model
from zhgpt.config.schema import RunConfig
from zhgpt.model.shape import count_parameters, flops_per_token

ROOT = Path(__file__).resolve().parents[1]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "ds_configs" / "README.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
STARTS = ("make ", "zhgpt ", "deepspeed ", "source ", "CONFIG=", "sbatch ")
ROOMS = (
    "configs",
    "ds_configs",
    "launch",
    "slurm",
    "megatron_style_data",
    "zhgpt",
    "tests",
    "docs",
    "benchmarks",
    ".ci",
)
OVERRIDE = re.compile(rf"^({'|'.join(RunConfig.model_fields)})\.([a-z_]+)=")
# A path in a document that stands for many, or that a run makes.
PLACEHOLDER = re.compile(r"[A-Z]{3,}|[*…]|\bNAME\b")

all_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fences(page: Path) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return FENCE.findall(text_of(page))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def spans(page: Path) -> list[str]:
    """All inline code, with escaped bars of tables as bars."""
    return [span.replace("\\|", "|") for span in SPAN.findall(prose(page))]


def code_lines(page: Path) -> list[str]:
    """Inline code, and the lines of code blocks without comments; quoted output (``text``) is left out."""
    blocks = [content.replace("\\\n", " ") for language, content in fences(page) if language in ("", "bash")]
    return [*spans(page), *(line.split(" #")[0].strip() for block in blocks for line in block.splitlines())]


def commands(page: Path) -> list[str]:
    """All commands of a page."""
    return [line for line in code_lines(page) if line.startswith(STARTS)]


def headings(page: Path) -> list[tuple[int, str]]:
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for _, title in headings(page))
    return {title.replace(" ", "-") for title in plain}


def tree(page: Path) -> list[str]:
    """The paths of the annotated tree, folders with a final slash."""
    (block,) = [content for language, content in fences(page) if content.startswith(".\n")]
    paths: list[str] = []
    parents: list[str] = []
    for line in block.splitlines()[1:]:
        indent, name = re.match(r"^([│├└─ ]*)(\S+)", line).groups()  # type: ignore[union-attr]
        parents[len(indent) // 4 - 1 :] = [name]
        paths.append("".join(parents))
    return paths


def zhgpt_command(words: list[str]) -> Any:
    """The click command that the words call, and how many of them name it."""
    if words[0] not in COMMANDS:
        return None
    command = load_command(words[0])
    if hasattr(command, "commands") and len(words) > 1 and not words[1].startswith("-"):
        return command.commands.get(words[1])
    return command


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("…", "").replace("...", ""))


def test_both_readmes_have_the_same_sections() -> None:
    english, chinese = (headings(page) for page in READMES)
    assert [level for level, _ in english] == [level for level, _ in chinese]


def test_both_readmes_show_the_same_blocks_and_commands() -> None:
    english, chinese = READMES
    without_comments = [
        [
            (language, re.sub(r" +#.*", "", content))
            for language, content in fences(page)
            if not content.startswith(".\n")
        ]
        for page in READMES
    ]
    assert without_comments[0] == without_comments[1]
    assert sorted(commands(english)) == sorted(commands(chinese))


def test_both_readmes_name_the_same_files_settings_and_links() -> None:
    english, chinese = READMES
    assert set(spans(english)) == set(spans(chinese))
    both = {"README.md", "README.zh-CN.md"}
    assert sorted(set(LINK.findall(text_of(english))) - both) == sorted(set(LINK.findall(text_of(chinese))) - both)


def test_both_readmes_have_tables_of_the_same_size() -> None:
    shapes = [[line.count("|") for line in prose(page).splitlines() if line.startswith("|")] for page in READMES]
    assert shapes[0] == shapes[1]


def test_both_trees_name_the_same_files_and_all_of_them_exist() -> None:
    english, chinese = (tree(page) for page in READMES)
    assert english == chinese
    assert [path for path in english if not (ROOT / path).exists()] == []
    assert [path for path in english if path.endswith("/") != (ROOT / path).is_dir()] == []


def test_the_tree_names_everything_at_the_top_and_every_recipe() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so nobody says which files belong to the project")
    files = [Path(name) for name in listed.stdout.splitlines()]
    wanted = {f"{path.parts[0]}/" if len(path.parts) > 1 else path.name for path in files} - {".gitignore"}
    wanted |= {path.as_posix() for path in files if path.parts[0] in ("configs", "ds_configs", "launch", "slurm")}
    assert sorted(wanted - set(tree(READMES[0]))) == []


@all_pages
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {target for line in code_lines(page) for target in re.findall(r"\bmake ([a-z-]+)", line)}
    assert sorted(called - targets) == []


@all_pages
def test_every_zhgpt_command_and_option_exists(page: Path) -> None:
    wrong = []
    for text in commands(page):
        words = words_of(text)
        if words[0] != "zhgpt" or len(words) == 1 or words[1].startswith("-"):
            continue
        command = zhgpt_command(words[1:])
        if command is None:
            wrong.append(text)
            continue
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        wrong += [f"{text}: {word}" for word in words if word.startswith("--") and word.split("=")[0] not in known]
    assert wrong == []


@all_pages
def test_every_override_is_a_setting(page: Path) -> None:
    code = " ".join([*spans(page), *(content for _, content in fences(page))])
    found = [match for word in code.split() if (match := OVERRIDE.match(word.strip("`,;()")))]
    sections = RunConfig.model_fields
    wrong = [
        match.group()
        for match in found
        if match.group(2) not in sections[match.group(1)].annotation.model_fields  # type: ignore[union-attr]
    ]
    assert wrong == []


@all_pages
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


@all_pages
def test_every_file_named_exists(page: Path) -> None:
    named = {span.split("#")[0] for span in spans(page) if re.fullmatch(r"[\w./-]+", span) and "/" in span}
    ours = {name for name in named if name.split("/")[0] in ROOMS and not PLACEHOLDER.search(name)}
    assert sorted(name for name in ours if not (ROOT / name).exists()) == []


def test_the_exit_codes_in_both_readmes_are_those_of_the_errors() -> None:
    codes = {getattr(errors, name).exit_code for name in errors.__all__} | {0}
    for page in READMES:
        assert {int(code) for code in re.findall(r"^\| (\d+) \|", prose(page), re.MULTILINE)} == codes


def test_the_quoted_warnings_are_what_zhgpt_says() -> None:
    batch = "train.global_batch_tokens=524288"
    overrides = ("optim.learning_rate=2e-5", "train.steps=297", "schedule.warmup_steps=10", batch)
    config = load_run_config(ROOT / "configs" / "qwen3_300m.yaml", overrides)
    plan, model = plan_batch(config, 1), resolve_model(config, 32_000)
    count = count_parameters(model)
    numbers = RunNumbers(count.total, count.embedding, flops_per_token(model, config.data.sequence_length))
    advice = advice_for(config, plan, model, load_deepspeed_json(ROOT / "ds_configs" / "zero1.json"), numbers)
    for page in READMES:
        assert re.findall(r"^warning: (.+)$", text_of(page), re.MULTILINE) == [said.en for said in advice]


def test_the_loop_in_the_architecture_is_the_loop() -> None:
    source = {line.strip() for line in (ROOT / "zhgpt" / "train" / "loop.py").read_text().splitlines()}
    (block,) = [content for language, content in fences(ROOT / "docs" / "architecture.md") if language == "python"]
    lines = [line.strip() for line in block.splitlines() if line.strip() and "raise StoppedBySignal" not in line]
    assert [line for line in lines if line not in source] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/checkpoints.md"])
def test_every_table_of_alternatives_named_is_in_the_code(name: str) -> None:
    places = (path for room in ("megatron_style_data", "zhgpt", "tests") for path in (ROOT / room).rglob("*.py"))
    sources = "\n".join(path.read_text("utf-8") for path in sorted(places))
    named = {span for span in spans(ROOT / name) if re.fullmatch(r"[A-Z]+(_[A-Z]+)+|[A-Z]{5,}", span)}
    elsewhere = {"TEST_ARGS", "ZHGPT_BUILD_OPS", "REQUEUE", "MMIDIDX"}
    assert sorted(word for word in named - elsewhere if not re.search(rf"^{word}\b", sources, re.MULTILINE)) == []


@pytest.mark.parametrize(
    "room", ["zhgpt", "megatron_style_data", "configs", "ds_configs", "slurm", "launch", "Makefile"]
)
def test_every_page_that_the_code_names_exists(room: str) -> None:
    place = ROOT / room
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.suffix not in (".pyc", ".zst")]
    named = {
        page
        for file in files
        if file.is_file()
        for page in re.findall(r"\bdocs/[\w.-]+\.md\b", file.read_text("utf-8"))
    }
    assert sorted(page for page in named if not (ROOT / page).is_file()) == []
