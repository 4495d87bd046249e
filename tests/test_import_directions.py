"""The import directions, as a table: who may import whom, and which files alone touch DeepSpeed or the environment."""

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = "megatron_style_data"

# A part of the project -> the other parts it may import. Parts import themselves freely; longest name wins.
MAY_IMPORT: dict[str, set[str]] = {
    DATA: set(),
    "zhgpt.errors": {DATA + ".errors"},
    "zhgpt.config": {"zhgpt.errors"},
    "zhgpt.distributed": {"zhgpt.errors"},
    "zhgpt.model": {"zhgpt.errors", "zhgpt.config", "zhgpt.distributed"},
    "zhgpt.checkpoint": {
        *("zhgpt.errors", "zhgpt.config", "zhgpt.distributed", DATA + ".atomic"),
        "zhgpt.model.moe.names",  # the model's names, not the model
    },
    "zhgpt.evaluate": {"zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", "zhgpt.checkpoint", DATA},
    "zhgpt.export": {"zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", "zhgpt.checkpoint", DATA},
    "zhgpt.health": {"zhgpt.errors", "zhgpt.config"},
    "zhgpt.report": {
        *("zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", "zhgpt.checkpoint", DATA),
        *("zhgpt.evaluate", "zhgpt.health", "zhgpt.plan.scaling_curve"),
        *("zhgpt.train.json_lines", "zhgpt.train.metrics"),  # the run's files, not the loop
    },
    "zhgpt.demo": {"zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", "zhgpt.checkpoint", DATA},
    "zhgpt.train": {
        *("zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", "zhgpt.checkpoint", DATA),
        *("zhgpt.evaluate", "zhgpt.export", "zhgpt.health"),
    },
    "zhgpt.ablate": {  # starts runs as processes and reads what they wrote
        *("zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", DATA + ".atomic"),
        "zhgpt.report",
        *("zhgpt.train.arguments", "zhgpt.train.decisions", "zhgpt.train.document_costs"),
        *("zhgpt.train.metrics", "zhgpt.train.run_folder"),
    },
    "zhgpt.plan": {  # arithmetic, and short runs as processes; torch only to measure this machine's CPU
        *("zhgpt.errors", "zhgpt.config", "zhgpt.distributed", "zhgpt.model", DATA),
        "zhgpt.train.throughput",
    },
    "zhgpt.cli": {"zhgpt", DATA},
    "launch": {"zhgpt.cli"},
}
NEVER_IN_DATA = {"torch", "transformers", "deepspeed", "zhgpt"}
MAY_IMPORT_DEEPSPEED = (
    "zhgpt/train/engine.py",
    "zhgpt/train/optimizer.py",
    "zhgpt/checkpoint/",
    "zhgpt/distributed/process_group.py",
    "zhgpt/model/moe/deepspeed_layer.py",
    "zhgpt/model/moe/expert_parallel.py",
    "zhgpt/distributed/op_builds.py",
)
MAY_READ_ENVIRONMENT = "zhgpt/distributed/environment.py"


def source_files() -> Iterator[Path]:
    for package in (DATA, "zhgpt", "launch"):
        yield from sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def type_checking_lines(tree: ast.Module) -> set[int]:
    """The lines below `if TYPE_CHECKING:`, which never run."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    return {line for block in blocks for line in range(block.body[0].lineno, (block.body[-1].end_lineno or 0) + 1)}


def imported_modules(path: Path, *, for_types_too: bool = True) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, in function bodies too, with the line."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    tree = ast.parse(path.read_text("utf-8"), str(path))
    skipped = set() if for_types_too else type_checking_lines(tree)
    for node in ast.walk(tree):
        if getattr(node, "lineno", 0) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield node.lineno, base
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_part_of(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def part_of(module: str) -> str | None:
    return max((part for part in MAY_IMPORT if is_part_of(module, part)), key=len, default=None)


def wrong_imports(path: Path) -> Iterator[str]:
    importer = part_of(module_name(path))
    for line, module in imported_modules(path):
        imported = part_of(module)
        if importer is None or imported is None or imported == importer:
            continue
        if not any(is_part_of(module, allowed) or is_part_of(allowed, module) for allowed in MAY_IMPORT[importer]):
            allowed_text = ", ".join(sorted(MAY_IMPORT[importer]))
            yield f"{path.relative_to(ROOT)}:{line} imports {module}; {importer} may import {allowed_text}"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_every_source_file_belongs_to_a_part_with_a_rule() -> None:
    packages = {"zhgpt", "zhgpt.__main__"}
    assert [p for p in source_files() if part_of(module_name(p)) is None and module_name(p) not in packages] == []


def test_imports_go_only_in_the_allowed_directions() -> None:
    assert [message for path in source_files() for message in wrong_imports(path)] == []


def test_the_rule_sees_an_import_in_the_wrong_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    wrong = tmp_path / "zhgpt" / "config" / "wrong.py"
    wrong.parent.mkdir(parents=True)
    wrong.write_text("def f():\n    from ..train import loop\n    from zhgpt.errors import UserError\n")
    assert [m.split(";")[0] for m in wrong_imports(wrong)] == [
        "zhgpt/config/wrong.py:2 imports zhgpt.train",
        "zhgpt/config/wrong.py:2 imports zhgpt.train.loop",
    ]


def test_the_data_package_never_imports_torch_transformers_or_deepspeed() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in source_files()
        for line, module in imported_modules(path)
        if is_part_of(module_name(path), DATA) and module.split(".")[0] in NEVER_IN_DATA
    ]
    assert found == []


def test_the_data_package_imports_where_torch_is_not_to_be_had() -> None:
    code = (
        "import sys, pkgutil, importlib\n"
        "for name in ('torch', 'transformers', 'deepspeed', 'zhgpt'): sys.modules[name] = None\n"
        f"import {DATA}\n"
        f"for module in pkgutil.walk_packages({DATA}.__path__, '{DATA}.'): importlib.import_module(module.name)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_deepspeed_is_imported_only_where_it_is_wrapped() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in source_files()
        for line, module in imported_modules(path, for_types_too=False)
        if module.split(".")[0] == "deepspeed" and not str(path.relative_to(ROOT)).startswith(MAY_IMPORT_DEEPSPEED)
    ]
    assert found == []


def test_one_file_reads_and_sets_the_environment() -> None:
    found = []
    for path in source_files():
        if str(path.relative_to(ROOT)) == MAY_READ_ENVIRONMENT:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
            name = getattr(node, "attr", "") or getattr(node, "name", "")
            if name in {"environ", "environb", "getenv", "putenv", "unsetenv"}:
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} uses {name}")
    assert found == []


def test_no_file_in_launch_hides_a_module_of_the_same_name() -> None:
    """`python launch/x.py` puts launch/ first on sys.path: launch/random.py would replace the standard module."""
    names = {path.stem for path in (ROOT / "launch").glob("*.py")} | {
        path.name for path in (ROOT / "launch").iterdir() if path.is_dir() and path.name.isidentifier()
    }
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    assert sorted(names & taken) == []


def test_launch_scripts_are_short() -> None:
    assert [p.name for p in (ROOT / "launch").glob("*.py") if len(p.read_text("utf-8").splitlines()) > 15] == []


def test_the_help_of_the_command_needs_neither_torch_nor_deepspeed() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'deepspeed'): sys.modules[name] = None\n"
        "from zhgpt.cli.main import main\n"
        "sys.argv = ['zhgpt', '--help']\n"
        "main()\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "pretrain" in done.stdout
