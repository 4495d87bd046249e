"""``zhgpt data mix`` as a user runs it: tokens and epochs of every source, before any run and without torch."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from synthetic import write_synthetic

from zhgpt.cli.main import main

Mix = Callable[..., str]

RECIPE = """\
data:
  blend:
    - {{data: {0}/web, weight: 6}}
    - {{data: {0}/wiki, weight: 3}}
    - {{data: {0}/books, weight: 1}}
  phases: [{{from_fraction: 0.9, weights: {{wiki: 2, books: 2}}}}]
  sequence_length: 100
train: {{steps: 100, global_batch_size: 20, micro_batch_size: 4}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of 400,000, 100,000 and 20,000 tokens."""
    folder = tmp_path_factory.mktemp("mix")
    for seed, (name, tokens) in enumerate((("web", 400_000), ("wiki", 100_000), ("books", 20_000))):
        write_synthetic(folder / name, tokens, seed=seed)
    return folder


@pytest.fixture
def mix(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mix:
    """Runs the command in this process; gives what it printed."""

    def run(*words: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["zhgpt", "data", "mix", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        assert (left.value.code or 0) == code, printed
        return printed.err if code else printed.out

    return run


def cells(line: str) -> Sequence[str]:
    return line.replace(" %", "%").split()


def test_sources_given_by_hand_print_share_samples_tokens_and_epochs(mix: Mix, folder: Path) -> None:
    lines = mix(
        f"{folder}/web:6", f"{folder}/wiki:3", f"{folder}/books:1", "--tokens", "200k", "--sequence-length", 100
    )
    head, columns, *rows = lines.splitlines()
    assert head == "3 sources, 2,000 samples of 100 tokens = 200k tokens"
    assert cells(columns) == ["source", "share", "samples", "tokens", "of", "epochs"]
    assert [cells(row) for row in rows] == [
        [f"{folder}/web", "60%", "1,200", "120k", "400k", "0.3"],
        [f"{folder}/wiki", "30%", "600", "60.0k", "100k", "0.6"],
        [f"{folder}/books", "10%", "200", "20.0k", "20.0k", "1"],
    ]


def test_a_source_read_too_often_is_warned_of(mix: Mix, folder: Path) -> None:
    told = mix(f"{folder}/web:6", f"{folder}/books:4", "--tokens", "2e6", "--sequence-length", 100)
    assert f"warning: the run reads {folder}/books 40 times (800k tokens of 20.0k); beyond about 4 passes" in told
    assert told.count("warning") == 1


def test_without_weights_sources_go_by_size_and_temperature(mix: Mix, folder: Path) -> None:
    by_size = mix(f"{folder}/web", f"{folder}/wiki", "--sequence-length", 100).splitlines()
    assert by_size[0] == "2 sources, 5,000 samples of 100 tokens = 500k tokens"
    assert [cells(row)[1] for row in by_size[2:]] == ["80%", "20%"]
    warmer = mix(f"{folder}/web", f"{folder}/wiki", "--temperature", 2).splitlines()
    assert [cells(row)[1] for row in warmer[2:4]] == ["66.67%", "33.33%"]


def test_a_run_prints_the_whole_and_each_phase(mix: Mix, folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text(RECIPE.format(folder), encoding="utf-8")
    lines = mix("--config", recipe).splitlines()
    assert lines[0] == "3 sources, 2,000 samples of 100 tokens = 200k tokens"
    assert [cells(row)[:3] for row in lines[2:5]] == [
        ["web", "54%", "1,080"],
        ["wiki", "32%", "640"],
        ["books", "14%", "280"],
    ]
    assert lines[5] == "from step 0 (sample 0), 1,800 samples:"
    assert [cells(row)[1] for row in lines[7:10]] == ["60%", "30%", "10%"]
    assert lines[10] == "from step 90 (sample 1,800), 200 samples:"
    assert [cells(row)[1] for row in lines[12:15]] == ["0%", "50%", "50%"]
    assert len(lines) == 15


def test_a_run_can_be_overridden(mix: Mix, folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text(RECIPE.format(folder), encoding="utf-8")
    told = mix("--config", recipe, "train.steps=1000", f"data.blend=[{{data: {folder}/web}}]", "data.phases=[]")
    assert told.splitlines()[0] == "1 source, 20,000 samples of 100 tokens = 2.00M tokens"
    assert "warning: the run reads web 5 times" in told


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "name the sources, as in data/web:6 data/wiki:3, or a run's settings with --config"),
        (["{}/web:much"], 2, "web:much: expected PREFIX:WEIGHT with a weight of at least 0"),
        (["{}/web:-1"], 2, "web:-1: expected PREFIX:WEIGHT with a weight of at least 0"),
        (["{}/web:1", "{}/wiki"], 2, "a weight but {}/wiki neither weight nor epochs; give all sources the same"),
        (["{}/web", "--tokens", "some"], 2, "--tokens some: expected a number of tokens"),
        (["{}/web", "--tokens", "0"], 2, "--tokens 0: expected a number of tokens of at least 1"),
        (["{}/web", "--sequence-length", "1"], 2, "--sequence-length 1 must be at least 2"),
        (["{}/web", "--temperature", "0"], 2, "--temperature 0 greater than 0"),
        (["{}/web:1", "--temperature", "2"], 2, "data.temperature 2 has no effect where sources have a weight"),
        (["{}/nothing:1"], 66, "nothing.meta.json: no such file"),
        (["--config", "x.yaml", "--tokens", "5"], 2, "go with PREFIX:WEIGHT; with --config write train.steps=…"),
        (["--config", "{}/none.yaml"], 66, "none.yaml: no such config file"),
    ],
)
def test_what_cannot_be_mixed_is_one_sentence(
    mix: Mix, folder: Path, words: list[str], code: int, sentence: str
) -> None:
    told = mix(*(word.replace("{}", str(folder)) for word in words), code=code)
    assert told.startswith("error: ")
    assert sentence.replace("{}", str(folder)) in told
    assert "Traceback" not in told


def test_it_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'deepspeed'): sys.modules[name] = None\n"
        "from zhgpt.cli.main import main\n"
        f"sys.argv = ['zhgpt', 'data', 'mix', '{folder}/web:6', '{folder}/wiki:3']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "66.67 %" in done.stdout
