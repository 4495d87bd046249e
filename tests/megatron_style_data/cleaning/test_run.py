"""Whole cleanings: counts that add up, samples, the same output for any number of workers, going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

from megatron_style_data.cleaning.clean_task import CleanTasks
from megatron_style_data.cleaning.places import Places
from megatron_style_data.cleaning.plan import documents_of, fingerprint, plan_tasks
from megatron_style_data.cleaning.run import clean, open_folder
from megatron_style_data.cleaning.shards import shard_lines
from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_documents
from megatron_style_data.tokenizer import train_bpe

STEPS = {
    "width": None,
    "length": {"minimum_characters": 50},
    "language": None,
    "repetition": None,
    "personal_data": None,
}


def lines_of(output: Path) -> list[dict]:
    return [json.loads(line) for shard in sorted((output / "data").iterdir()) for line in shard_lines(shard)]


def bytes_of(output: Path) -> dict[str, bytes]:
    files = (path for path in output.rglob("*") if path.is_file())
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def test_the_counts_add_up_and_the_reasons_are_named(write_corpus, make_recipe, many_texts, tmp_path: Path) -> None:
    recipe = make_recipe(write_corpus(*many_texts), STEPS, deduplicate={}, input={"source": "故事", "license": "CC0"})
    result = clean(recipe, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "corpus.json").read_bytes())
    source = record["sources"]["故事"]
    assert source["read"]["documents"] == 300
    assert source["licenses"] == {"CC0": 300}
    gone = sum(count for reasons in source["dropped"].values() for count in reasons.values())
    assert source["read"]["documents"] == gone + source["duplicates"] + source["kept"]["documents"]
    assert source["dropped"]["length"] == {"characters < 50": 1}
    assert source["dropped"]["language"] == {"chinese_share < 0.5": 1}
    assert sum(source["dropped"]["repetition"].values()) == 1
    assert source["duplicates"] == record["duplicates"]["counts"]["exact"] + record["duplicates"]["counts"]["near"]
    assert record["duplicates"]["counts"]["exact"] >= 1
    assert sum(source["kept"]["documents_by_length"]) == source["kept"]["documents"] == len(lines_of(tmp_path / "out"))
    assert [step["step"] for step in record["steps"]] == list(STEPS)
    assert record["steps"][1]["documents_seen"] == 300
    assert record["steps"][2]["documents_seen"] == 299
    assert result.ledger is not None
    assert not (tmp_path / "out" / "unfinished").exists()


def test_the_output_is_one_that_the_readers_read(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    corpus = write_corpus({"text": story, "url": "https://example.com/1", "license": "MIT", "source": "网页:1"})
    recipe = make_recipe(corpus, {"length": None}, input={"source_field": "source", "source_pattern": "^[^:]+"})
    clean(recipe, tmp_path / "out")
    (line,) = lines_of(tmp_path / "out")
    assert line == {
        "text": story, "source": "网页", "license": "MIT", "url": "https://example.com/1", "origin": "网页:1",
    }  # fmt: skip
    (file,) = expand_inputs([tmp_path / "out" / "data"])
    (document,) = read_documents(file, ReadOptions(), ReadCounters())
    assert document.text == story


def test_samples_of_what_was_dropped_and_changed_are_kept(
    write_corpus, make_recipe, many_texts, tmp_path: Path
) -> None:
    texts = [*many_texts, many_texts[5] + "电话１３８００１３８０００。"]
    clean(make_recipe(write_corpus(*texts), STEPS), tmp_path / "out")
    (sample,) = map(json.loads, (tmp_path / "out" / "dropped" / "length.jsonl").read_text("utf-8").splitlines())
    assert sample == {
        "source": "corpus.jsonl", "place": 11, "reason": "characters < 50", "measure": "characters", "value": 4,
        "text": "太短了。",
    }  # fmt: skip
    (changed,) = map(json.loads, (tmp_path / "out" / "changed" / "width.jsonl").read_text("utf-8").splitlines())
    assert "１３８" in changed["before"]
    (masked,) = map(json.loads, (tmp_path / "out" / "changed" / "personal_data.jsonl").read_text("utf-8").splitlines())
    assert "[手机号]" in masked["after"]
    assert "before" not in masked


def test_only_so_many_samples_as_asked_are_kept(write_corpus, make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(write_corpus(*[f"短{number}" for number in range(30)], "长" * 60), samples_a_step=7)
    clean(recipe, tmp_path / "out")
    assert len((tmp_path / "out" / "dropped" / "length.jsonl").read_text("utf-8").splitlines()) == 7


@pytest.mark.parametrize("packed", [False, True])
def test_any_number_of_workers_writes_the_same_bytes(
    write_corpus, make_recipe, many_texts, tmp_path: Path, packed: bool
) -> None:
    corpus = write_corpus(*many_texts, "这一行\u0000", '{"broken')
    if packed:
        small = zstandard.ZstdCompressor().compress(corpus.read_bytes())
        corpus = corpus.with_name("corpus.jsonl.zst")
        corpus.write_bytes(small)
    recipe = make_recipe(corpus, STEPS, deduplicate={}, task_bytes=30_000)
    assert len(plan_tasks(recipe)) >= 3
    for workers in (1, 2):
        clean(recipe, tmp_path / str(workers), workers=workers, near=3)
    one, two = bytes_of(tmp_path / "1"), bytes_of(tmp_path / "2")
    assert list(one) == list(two)
    assert one == two


def test_the_tasks_of_a_file_give_every_document_once_with_its_line(
    write_corpus, make_recipe, many_texts, tmp_path: Path
) -> None:
    plain = write_corpus(*many_texts * 3)
    packed = plain.with_name("packed.jsonl.zst")
    packed.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
    for corpus in (plain, packed):
        recipe = make_recipe(corpus, task_bytes=50_000)
        tasks = plan_tasks(recipe)
        assert len(tasks) > 3
        found = [
            (document.place, document.text)
            for task in tasks
            for document in documents_of(task, recipe.inputs[task.section], ReadCounters())
        ]
        assert sorted(found) == list(enumerate(many_texts * 3, start=1))


def test_lines_that_cannot_be_read_are_counted_once_with_their_place(
    write_corpus, make_recipe, many_texts, tmp_path: Path
) -> None:
    corpus = write_corpus(*many_texts * 2)
    with corpus.open("a", encoding="utf-8") as file:
        file.write("{broken\n" + json.dumps({"text": many_texts[0]}, ensure_ascii=False) + "\n")
    recipe = make_recipe(corpus, task_bytes=50_000)
    clean(recipe, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "corpus.json").read_bytes())
    assert record["unreadable"]["counts"] == {"not_json": 1}
    assert "line 601" in record["unreadable"]["first"]["not_json"][0]


def test_tokens_are_counted_of_what_stays(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    tokenizer = train_bpe([story] * 3, 400, tmp_path / "tokenizer")
    recipe = make_recipe(write_corpus(story, "短"), tokenizer=str(tmp_path / "tokenizer"))
    clean(recipe, tmp_path / "out")
    total = json.loads((tmp_path / "out" / "corpus.json").read_bytes())["total"]
    assert total["kept"]["tokens"] == len(tokenizer.encode_batch([story])[0]) + 1


def test_a_cleaning_that_stopped_goes_on_and_writes_the_same_bytes(
    write_corpus, make_recipe, many_texts, tmp_path: Path
) -> None:
    recipe = make_recipe(write_corpus(*many_texts * 2), STEPS, deduplicate={}, task_bytes=50_000)
    clean(recipe, tmp_path / "whole")
    tasks = plan_tasks(recipe)
    places = Places(tmp_path / "stopped")
    open_folder(places, fingerprint(recipe, tasks), 0, False)
    for number in (0, 2):
        CleanTasks(recipe, tasks, tmp_path / "stopped")(None, number, len(tasks))
    before = places.part(2).stat().st_mtime_ns
    result = clean(recipe, tmp_path / "stopped")
    assert result.resumed_tasks == 2
    assert before  # the part itself goes when the cleaning is done
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_cleaning_that_is_killed_goes_on_and_leaves_no_process(
    write_corpus, make_recipe, many_texts, tmp_path: Path
) -> None:
    corpus = write_corpus(*many_texts * 20)
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(json.dumps({"inputs": [{"path": str(corpus)}], "steps": STEPS, "task_bytes": 100_000}))
    main = "from zhgpt.cli.main import main; main()"
    command = [sys.executable, "-c", main, "corpus", "clean", str(recipe_file), "--workers", "2", "--output"]
    done = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    mark = f"STARTED_BY_THIS_TEST={tmp_path}"  # every process that it starts has it, too
    killed = [*command, str(tmp_path / "killed")]
    with subprocess.Popen(
        killed, stdout=subprocess.DEVNULL, env={**os.environ, mark.split("=")[0]: str(tmp_path)}
    ) as running:
        records = tmp_path / "killed" / "unfinished" / "clean"
        deadline = time.monotonic() + 60
        while not (records.is_dir() and any(records.glob("0*.json"))):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "corpus.json").exists()
    deadline = time.monotonic() + 30
    while _processes_with(mark):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.2)
    again = subprocess.run(
        [*command, str(tmp_path / "killed")], capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "of an interrupted run" in again.stdout
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def _processes_with(variable: str) -> list[int]:
    """Processes with this in their environment, as they were started."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environment = (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if variable.encode() in environment:
                found.append(int(process.name))
    return found


def test_a_finished_corpus_another_recipe_and_a_strange_folder_are_refused(
    write_corpus, make_recipe, story, tmp_path: Path
) -> None:
    corpus = write_corpus(story)
    recipe, other = make_recipe(corpus), make_recipe(corpus, {"length": {"minimum_characters": 1}})
    clean(recipe, tmp_path / "out")
    with pytest.raises(StorageError, match="holds a cleaned corpus already; choose another output, or replace it"):
        clean(recipe, tmp_path / "out")
    clean(other, tmp_path / "out", force=True)
    open_folder(Places(tmp_path / "half"), fingerprint(recipe, plan_tasks(recipe)), 0, False)
    with pytest.raises(SettingError, match="unfinished cleaning of another recipe, or its inputs changed"):
        clean(other, tmp_path / "half")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("…")
    with pytest.raises(StorageError, match="is there already and is no cleaned corpus"):
        clean(recipe, tmp_path / "mine")
    with pytest.raises(StorageError, match="is there already and is no cleaned corpus"):
        clean(recipe, tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_an_output_in_an_input_is_refused(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    folder = write_corpus(story).parent
    with pytest.raises(SettingError, match=f"lies in the input {folder}, and would be read with it"):
        clean(make_recipe(folder), folder / "out")
    assert not (folder / "out").exists()


def test_an_empty_corpus_and_zero_workers_are_refused(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"corpus is empty, not one document was found"):
        clean(make_recipe(write_corpus(" ")), tmp_path / "out")
    with pytest.raises(SettingError, match="workers 0: expected at least 1"):
        clean(make_recipe(write_corpus(story)), tmp_path / "out2", workers=0)


def test_a_corpus_of_which_nothing_stays_still_has_its_ledger(write_corpus, make_recipe, tmp_path: Path) -> None:
    clean(make_recipe(write_corpus("短", "也短"), deduplicate={}), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "corpus.json").read_bytes())
    assert record["total"]["kept"]["documents"] == 0
    assert record["total"]["dropped"] == {"length": {"characters < 50": 2}}


def test_a_source_for_every_document_is_refused(write_corpus, make_recipe, story, tmp_path: Path) -> None:
    corpus = write_corpus(*[{"text": story, "url": f"https://example.com/{number}"} for number in range(1001)])
    with pytest.raises(BadDataError, match=r"line 1001: the 1001th source, 'https://example.com/1000'; expected a few"):
        clean(make_recipe(corpus, input={"source_field": "url"}), tmp_path / "out")
