"""Makes the recorded runs of tests/health: real trainings, two sets with other seeds, shapes and rates.

    python tests/support/record_runs.py FOLDER [NAME ...]

trains them below FOLDER (tokenizer, datasets and runs stay there; finished runs are not run again) and writes each run's
metrics.jsonl, with what the detectors know besides, to tests/health/recorded/NAME.jsonl.zst. Thresholds were set on the runs of
CALIBRATION; the tests look at those of HEALTHY and FAILING.
"""

import base64
import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

RECIPE = """
run: {seed: 11}
data: {train: demo, sequence_length: 128}
model: {model_type: qwen3, hidden_size: 64, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2}
optim: {name: adamw, learning_rate: 6.0e-3}
schedule: {name: wsd, warmup_steps: 40, minimum_ratio: 0.05, decay_fraction: 0.3}
train: {steps: 400, global_batch_size: 8, micro_batch_size: 8, precision: fp32}
evaluate: {every_steps: 50, samples: 64, max_new_tokens: 60, prompts: [却说曹操, 玄德曰：“, 中华人民共和国, 第一条　为了]}
checkpoint: {every_steps: 100, keep_last: 1}
log: {every_steps: 5, tensorboard: false}
launch: {accelerator: cpu, timeout_seconds: 300}
"""


def _noise(first: int, steps: int) -> tuple[str, ...]:
    """Settings of a run that reads nothing but noise for some steps."""
    phases = f"{{from_step: {first}, weights: {{noise: 1}}}}, {{from_step: {first + steps}, weights: {{demo: 1}}}}"
    return (
        "data.train=null",
        "data.blend=[{data: demo, weight: 1}, {data: noise, weight: 0}]",
        f"data.phases=[{phases}]",
    )


_TOO_HOT = ("schedule.warmup_steps=300", "optim.gradient_clipping=0", "optim.learning_rate=1.0")
_BY_HEART = (
    *("data.train=tiny", "evaluate.temperature=0", "optim.learning_rate=8e-3"),
    'evaluate.prompts=["中华人民共和国国家安全法\\n第一章 总则\\n第一条", "汝二人善理国政。慎之！慎之！”", '
    '"第四条　坚持中国共产党"]',
)
MOE = ("model.moe.num_experts=4", "model.moe.num_experts_per_tok=1", "model.moe.moe_intermediate_size=96")
GPT2 = ("model.model_type=gpt2", "model.num_key_value_heads=null")

# Healthy runs of the calibration: what no threshold may call ill.
CALIBRATION: dict[str, tuple[str, ...]] = {
    "calibrate_dense": (),
    "calibrate_gpt2": (*GPT2, "optim.learning_rate=3e-3", "schedule.name=cosine"),
    "calibrate_moe": (*MOE, "run.seed=12"),
    "calibrate_bf16": ("train.precision=bf16", "run.seed=13", "optim.learning_rate=4e-3"),
    "calibrate_two_epochs": ("data.train=small", "run.seed=14"),
    "calibrate_hot": ("optim.learning_rate=1.2e-2", "run.seed=15"),
    "calibrate_slow": ("optim.learning_rate=1.5e-3", "run.seed=16"),
    "calibrate_stuck": ("optim.learning_rate=4e-5", "run.seed=17"),
    "calibrate_spike": (*_noise(200, 2), "run.seed=18"),
    "calibrate_diverged": (*GPT2, *_TOO_HOT, "run.seed=19"),
    "calibrate_overfit": (*_BY_HEART, "train.steps=600", "run.seed=20"),
    "calibrate_eps": ("optim.eps=0.01", "run.seed=21"),
    "calibrate_loader": ("train.steps=40", "run.seed=22"),
    "calibrate_loops": ("optim.learning_rate=5e-4", "evaluate.temperature=0", "run.seed=23"),
}

_SHORT = ("model.hidden_size=96", "data.sequence_length=192", "train.steps=160")
_OTHER = ("model.hidden_size=96", "model.num_hidden_layers=2", "data.sequence_length=192", "train.steps=300")
_MUON = ("optim.name=muon",)
HEALTHY: dict[str, tuple[str, ...]] = {
    "healthy_dense": (*_OTHER, "run.seed=101", "optim.learning_rate=5e-3"),
    "healthy_moe": (*_OTHER, *MOE, "run.seed=102", "optim.learning_rate=4e-3"),
    "healthy_muon": (*_OTHER, *_MUON, "run.seed=105", "optim.learning_rate=5e-3"),
    "healthy_small_data": (*_OTHER, "data.train=small", "run.seed=103", "optim.learning_rate=5e-3"),
    "healthy_resumed": (*_OTHER, "run.seed=104", "optim.learning_rate=3e-3", "schedule.name=cosine"),
}
FAILING: dict[str, tuple[str, ...]] = {
    "failing_rate": (*_OTHER, "optim.learning_rate=2e-5", "run.seed=201"),
    "failing_diverged": (*_OTHER, *GPT2, *_TOO_HOT, "run.seed=202"),
    "failing_spike": (*_OTHER, *_noise(180, 3), "run.seed=203"),
    "failing_overfit": (*_OTHER, *_BY_HEART, "train.steps=500", "run.seed=204"),
    "failing_eps": (*_OTHER, "optim.eps=0.03", "run.seed=206"),
    "failing_loader": (*_OTHER, "train.steps=40", "run.seed=207"),
    "failing_loops": (*_OTHER, "optim.learning_rate=4e-4", "evaluate.temperature=0", "run.seed=208"),
    "failing_zeros": (*_SHORT, "run.seed=209"),
    "failing_heavy": (*_SHORT, "optim.learning_rate=1e-3", "model.initializer_range=0.005", "run.seed=210"),
    "failing_gradient": (*_SHORT, "run.seed=211"),
    "failing_update": (*_SHORT, "optim.learning_rate=4e-4", "run.seed=212"),
    "failing_too_slow": (*_OTHER, "optim.learning_rate=2e-5", "train.steps=240", "run.seed=213"),
    "failing_few_tokens": (*_OTHER, "optim.learning_rate=5e-3", "train.steps=30", "run.seed=214"),
    "failing_muon_zeros": (*_SHORT, *_MUON, "run.seed=215"),
    "failing_muon_diverged": (*_OTHER, *GPT2, *_MUON, *_TOO_HOT, "run.seed=216"),
}
# configs/demo.yaml as it was but for the evaluation, ended by a signal: the whole takes an hour on a busy core.
_DEMO = ("data.train=demo8k", "evaluate.samples=64")
HEALTHY["healthy_demo"] = (*_DEMO, "evaluate.every_steps=200")
FAILING["failing_demo"] = (*_DEMO, "optim.learning_rate=2e-5")
HEALTHY["healthy_muon_demo"] = ("evaluate.every_steps=200",)
"""configs/demo.yaml as it is, to its end, on two ranks."""
FAILING["failing_muon_demo"] = ("data.train=demo8k", "optim.learning_rate=2e-5")
"""The same at the diary's rate, on one rank, ended by a signal where it has been found out."""
RUNS = {**CALIBRATION, **HEALTHY, **FAILING}
STOP_AT = {
    "healthy_resumed": 150,
    "failing_update": 120,
    "healthy_demo": 431,
    "failing_demo": 460,
    "failing_muon_demo": 262,
}
"""Steps after which a run is stopped by a signal; all but the demo's are started again."""
RESUMED_WITH = {"failing_update": ("optim.learning_rate=8e-3",)}
"""What else is set when a stopped run is started again."""
OLD_DEMOS = ("healthy_demo", "failing_demo")
DEMO_WAS = (
    *("optim.name=adamw", "schedule.warmup_steps=100", "train.steps=1600", "train.global_batch_tokens=1024"),
    *("train.micro_batch_size=2", "checkpoint.every_steps=400"),
)
"""Settings of configs/demo.yaml when OLD_DEMOS were recorded."""
HOOKS: dict[str, tuple[Any, ...]] = {
    "calibrate_loader": ("train_on_a_slow_disk", 2.0),
    "failing_loader": ("train_on_a_slow_disk", 2.5),
    "failing_zeros": ("train_with_scaled_weights", r"layers\.1\..*_proj", 0.0),
    "failing_muon_zeros": ("train_with_scaled_weights", r"layers\.1\..*_proj", 0.0),
    "failing_heavy": ("train_with_scaled_weights", r"layers\.1\..*\.[qk]_proj", 200.0),
    "failing_gradient": ("train_with_a_poisoned_gradient", 120, None, 40.0),
}
"""Of faults.py, with its arguments: what a run has that no setting gives it. The rest is trained by ``train``."""


def texts() -> list[str]:
    """The documents of the demo's two texts, mixed."""
    import zstandard

    found: list[str] = []
    for name in ("laws", "sanguo"):
        with zstandard.open(ROOT / "zhgpt" / "demo" / f"{name}.jsonl.zst", "rt", encoding="utf-8") as lines:
            found += [json.loads(line)["text"] for line in lines]
    random.Random(5).shuffle(found)
    return found


def noise(characters: int, seed: int) -> str:
    """Base64 of nothing, as broken pages have it."""
    return base64.b64encode(random.Random(seed).randbytes(characters * 3 // 4)).decode()


def make_data(folder: Path) -> None:
    """A tokenizer of 2,048 tokens, the demo's text whole, a tenth of it, eight documents of it, and noise."""
    whole = texts()
    documents = {
        "demo": whole,
        "small": whole[:60],
        "tiny": whole[:8],
        "noise": [noise(3000, seed) for seed in range(4)],
    }
    for name, chosen in documents.items():
        if (folder / f"{name}.meta.json").exists():
            continue
        text = folder / f"{name}.jsonl"
        text.write_text(
            "".join(json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in chosen), encoding="utf-8"
        )
        if not (folder / "tokenizer").exists():
            zhgpt("tokenizer", "train", "--input", text, "--vocab-size", "2048", "--output", folder / "tokenizer")
        fraction = {"tiny": "0.3", "noise": "0"}.get(name, "0.1")
        words = (
            "--tokenizer",
            folder / "tokenizer",
            "--output",
            folder / name,
            "--valid-fraction",
            fraction,
            "--workers",
            "1",
        )
        zhgpt("data", "build", "--input", text, *words)


def make_demo_data(folder: Path) -> None:
    """What `make demo` trains on."""
    if (folder / "demo8k.meta.json").exists():
        return
    parts = [word for name in ("laws", "sanguo") for word in ("--input", ROOT / "zhgpt" / "demo" / f"{name}.jsonl.zst")]
    zhgpt("tokenizer", "train", *parts, "--vocab-size", "8192", "--output", folder / "tokenizer8k")
    words = ("--tokenizer", folder / "tokenizer8k", "--output", folder / "demo8k", "--valid-fraction", "0.04")
    zhgpt("data", "build", *parts, *words, "--workers", "1")


def zhgpt(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "zhgpt.cli.main", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def settings(name: str) -> tuple[str, ...]:
    """All overrides of a run's recipe."""
    return (*(DEMO_WAS if name in OLD_DEMOS else ()), *RUNS[name])


def write_recipe(name: str, folder: Path) -> Path:
    """The YAML file of a run."""
    recipe = folder / f"{name}.yaml"
    text = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8") if name.endswith("_demo") else RECIPE
    recipe.write_text(text, encoding="utf-8")
    return recipe


def record(name: str, folder: Path) -> Path:
    """The run's metrics and facts, as the tests read them."""
    import zstandard

    from zhgpt.config.loading import load_run_config
    from zhgpt.health.history import facts_of

    run = folder / "runs" / name
    recipe = write_recipe(name, folder)
    asked = load_run_config(recipe, (*settings(name), *RESUMED_WITH.get(name, ())))
    done = load_run_config(run / "run_config.yaml")
    for section in ("model", "optim", "schedule", "train", "evaluate", "data"):
        if section != "data" or not name.endswith("_demo"):  # the demo's data may lie elsewhere
            found, wanted = getattr(done, section), getattr(asked, section)
            assert found == wanted, f"{run} was not trained with {section} {wanted} but with {found}"
    assert done.run.seed == asked.run.seed
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    head = {"overrides": RUNS[name], "facts": asdict(facts_of(environment))}
    text = json.dumps(head, ensure_ascii=False) + "\n" + (run / "metrics.jsonl").read_text(encoding="utf-8")
    target = ROOT / "tests" / "health" / "recorded" / f"{name}.jsonl.zst"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(zstandard.ZstdCompressor(19).compress(text.encode()))
    return target


def train(folder: Path, names: list[str]) -> None:
    """All runs, each a fork of one process that has imported torch and DeepSpeed."""
    import signal

    from faults import Moment
    from ranks import Ranks

    ranks = Ranks()
    try:
        for name in names:
            if (folder / "runs" / name / "exit_status.json").exists():
                continue
            argv = [
                "--config",
                str(write_recipe(name, folder)),
                "--deepspeed_config",
                str(ROOT / "ds_configs" / "zero1.json"),
                f"run.name={name}",
                *settings(name),
            ]
            ranks_of_it = 2 if name == "healthy_muon_demo" else 1
            options: dict[str, Any] = {"world_size": ranks_of_it, "timeout": 3000.0, "cwd": folder}
            if name in STOP_AT:
                moment = Moment("zhgpt.train.loop:train_step", STOP_AT[name], 0, after=True)
                ranks.run("faults:train_and_signal", argv, moment, signal.SIGTERM, **options)
            if name in STOP_AT and name.endswith("_demo"):
                continue
            hook, *arguments = HOOKS.get(name, ("train",))
            argv += RESUMED_WITH.get(name, ())
            outcome = ranks.run(f"faults:{hook}", argv, *arguments, **options)[0]
            print(name, outcome.code, outcome.output.strip().splitlines()[-1:], flush=True)
    finally:
        ranks.close()


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = sys.argv[2:] or list(RUNS)
    make_data(folder)
    make_demo_data(folder)
    train(folder, names)
    for name in names:
        print(record(name, folder))


if __name__ == "__main__":
    main()
