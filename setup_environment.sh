#!/usr/bin/env bash
# Makes the project's Python environment: setup_environment.sh [core|dev]. A second call installs nothing (< 1 s).
#
#   core   what `zhgpt` needs to run          dev   core + tests, linters, Python layers of flash-attn and Liger-Kernel
#
# An NVIDIA driver selects the CUDA build of torch; without one, the CPU build where pip's configuration offers it.
# Settings, all environment variables (pip's own configuration, mirrors included, is honoured everywhere):
#   PYTHON               the Python to use, 3.11 to 3.13    (default: the first of python3, python3.11-13 that fits)
#   VENV                 where the environment is made      (default: .venv)
#   TORCH_INDEX_URL      the package index torch comes from, for instance the CPU index of the PyTorch project
#   ZHGPT_SYSTEM_TORCH   1: use the torch that PYTHON has already (a cluster's own build); torch is not installed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

LEVEL=${1:-core}
VENV=${VENV:-.venv}
TORCH_INDEX_URL=${TORCH_INDEX_URL:-}
SYSTEM_TORCH=${ZHGPT_SYSTEM_TORCH:-0}

say() { echo "set-up: $*"; }
die() { echo "set-up: error: $*" >&2; exit "${2:-1}"; }

has_nvidia_driver() { [ -e /proc/driver/nvidia/version ] || nvidia-smi -L 2>/dev/null | grep -q '^GPU '; }

fingerprint() { # of everything that decides what gets installed
    { echo "$LEVEL|$PWD|${PYTHON:-}|$TORCH_INDEX_URL|$SYSTEM_TORCH|$DRIVER"
      cat setup.cfg pyproject.toml constraints.txt setup_environment.sh "$VENV/pyvenv.cfg"; } 2>/dev/null | sha256sum
}
is_installed() { [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/installed-$1" 2>/dev/null)" = "$(fingerprint)" ]; }

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

choose_python() { # the Python that makes the environment, in BASE_PYTHON
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if fits "$candidate"; then BASE_PYTHON=$candidate; break; fi
    done
    [ -n "${BASE_PYTHON:-}" ] || die "Python 3.11, 3.12 or 3.13 is needed; ${PYTHON:-python3} is $(
        "${PYTHON:-python3}" --version 2>/dev/null || echo 'not there'). Set PYTHON=/path/to/python3.11." 2
    "$BASE_PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$BASE_PYTHON has no venv module. Debian and Ubuntu: apt-get install python3-venv; or set PYTHON to another one." 2
    BASE_PYTHON=$("$BASE_PYTHON" -c 'import sys; print(sys._base_executable)')    # an environment's Python stands for its base
}

check_disk() { # pip's own message for a full disk comes late and leaves half a package behind
    local needed_gb=$1 free_kb present_kb
    free_kb=$(df -Pk "$(dirname "$VENV")" | awk 'NR == 2 { print $4 }')
    present_kb=$(du -sk "$VENV" 2>/dev/null | cut -f 1) || true
    [ $((free_kb + ${present_kb:-0})) -ge $((needed_gb * 1024 * 1024)) ] ||
        die "$((free_kb / 1024)) MB are free where $VENV is; it needs about $needed_gb GB. Make room, or set VENV to a folder elsewhere." 74
}

pip_install() { # stops with what to do when pip fails; what is installed stays, so the next call goes on from there
    local quiet=-qq
    if [ -t 1 ]; then quiet=--no-color; fi
    touch "$VENV/installing"
    "$VENV/bin/python" -m pip install "$quiet" --disable-pip-version-check "$@" ||
        die "pip failed, see above. Nothing is lost: run the same command again and it goes on from here."
    rm "$VENV/installing"
}

forget_half_installed() { # a killed pip leaves packages with files missing that it would take for installed
    [ -e "$VENV/installing" ] || return 0
    say "the last installation was interrupted; looking for packages that are not whole"
    "$VENV/bin/python" - << 'PYTHON'
import importlib.metadata, pathlib, shutil, sysconfig
for folder in pathlib.Path(sysconfig.get_path("purelib")).glob("*.dist-info"):
    files = importlib.metadata.Distribution.at(folder).files or []
    broken = [f for f in files if not f.locate().exists() or f.size not in (None, f.locate().stat().st_size)]
    if broken or not files:
        print(f"set-up: {folder.name} is not whole and will be installed again")
        shutil.rmtree(folder)
PYTHON
    rm "$VENV/installing"
}

make_venv() {
    local base flags=()
    base="$(readlink -f "$BASE_PYTHON") $PWD $SYSTEM_TORCH"
    if [ "$(cat "$VENV/made-from" 2>/dev/null)" = "$base" ] && "$VENV/bin/python" -m pip --version > /dev/null 2>&1; then return; fi
    if [ -e "$VENV" ] && [ ! -e "$VENV/made-from" ] && [ ! -e "$VENV/being-made" ]; then
        die "$VENV exists and was not made here. Move it away, or set VENV to another folder." 2
    fi
    say "making $VENV with $("$BASE_PYTHON" --version)"
    rm -rf "$VENV"; mkdir -p "$VENV"; touch "$VENV/being-made"
    if [ "$SYSTEM_TORCH" = 1 ]; then flags+=(--system-site-packages); fi
    "$BASE_PYTHON" -m venv "${flags[@]}" "$VENV" || die "$BASE_PYTHON -m venv failed, see above"
    echo "$base" > "$VENV/made-from"; rm "$VENV/being-made"
}

TORCH_VERSION='import importlib.metadata as m; print(m.version("torch"))'
check_system_torch() {
    [ "$SYSTEM_TORCH" = 0 ] || "$BASE_PYTHON" -c "$TORCH_VERSION" > /dev/null 2>&1 ||
        die "ZHGPT_SYSTEM_TORCH=1, but $BASE_PYTHON has no torch. Load the cluster's module first, or set PYTHON to the Python that has it." 66
}

torch_is() { # the pinned version is installed, whatever its build
    local found; found=$("$VENV/bin/python" -c "$TORCH_VERSION" 2>/dev/null) && [ "${found%%+*}" = "$1" ]
}

install_torch() { # first and by its exact version: a bare `torch` asked for by another package takes the newest CUDA build
    local pin; pin=$(sed -n 's/^torch==//p' constraints.txt)
    CONSTRAINTS=constraints.txt
    if [ "$SYSTEM_TORCH" = 1 ]; then
        pin=$("$VENV/bin/python" -c "$TORCH_VERSION")
        say "using torch $pin of $BASE_PYTHON"
        CONSTRAINTS=$VENV/constraints-system-torch.txt
        { grep -vE '^(torch|triton|nvidia-.*|cuda-.*)==' constraints.txt; echo "torch==$pin"; } > "$CONSTRAINTS"
    elif torch_is "$pin" && [ "$(cat "$VENV/torch-from" 2>/dev/null)" = "$TORCH_INDEX_URL|$DRIVER" ]; then
        return 0
    elif [ -n "$TORCH_INDEX_URL" ]; then
        say "installing torch $pin from TORCH_INDEX_URL"
        # What torch needs comes in the next step; another build of the same version has to be replaced by force.
        pip_install --no-deps --force-reinstall --index-url "$TORCH_INDEX_URL" "torch==$pin"
    elif [ "$DRIVER" = 1 ]; then
        say "an NVIDIA driver is here: installing the CUDA build of torch $pin (several GB)"
        pip_install -c constraints.txt "torch===$pin"                         # === leaves out local versions such as +cpu
    else
        say "no NVIDIA driver: installing torch $pin, the CPU build if pip's configuration offers one"
        say "(if several GB of nvidia-* packages follow, it does not: stop, set TORCH_INDEX_URL to a PyTorch CPU index)"
        pip_install -c constraints.txt "torch==$pin"
    fi
    [ "$SYSTEM_TORCH" = 1 ] || echo "$TORCH_INDEX_URL|$DRIVER" > "$VENV/torch-from"
}

install_flash_attention_layer() { # its Python files without the kernels: tests call its real signatures on a machine without a GPU
    local pin; pin=$(sed -n 's/^flash-attn==//p' constraints.txt)
    if [ "$DRIVER" = 1 ]; then say "flash-attn is not installed; for its kernels: $VENV/bin/pip install --no-build-isolation -c constraints.txt flash-attn"; return; fi
    "$VENV/bin/python" -c 'import importlib.metadata as m; m.version("flash-attn")' 2>/dev/null && return
    say "installing flash-attn's Python layer"
    FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE FLASH_ATTENTION_FORCE_BUILD=TRUE "$VENV/bin/python" -m pip install -qq \
        --disable-pip-version-check --no-build-isolation --no-deps "flash-attn==$pin" ||
        say "warning: flash-attn's Python layer could not be installed; its test will be skipped"
}

install_liger_layer() { # its Python files, without what it needs (Triton has no CPU build): a test reads its real signatures
    local pin; pin=$(sed -n 's/^liger-kernel==//p' constraints.txt)
    "$VENV/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('liger-kernel') != '$pin')" 2>/dev/null && return
    say "installing Liger-Kernel's Python layer"
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-deps "liger-kernel==$pin" ||
        say "warning: Liger-Kernel's Python layer could not be installed; its test will be skipped"
}

case $LEVEL in core | dev) ;; *) die "$LEVEL is no level; there are: core, dev" 2 ;; esac
case $SYSTEM_TORCH in 0 | 1) ;; *) die "ZHGPT_SYSTEM_TORCH is '$SYSTEM_TORCH'; it is 1 or not set" 2 ;; esac
DRIVER=0; if has_nvidia_driver; then DRIVER=1; fi
if is_installed "$LEVEL"; then exit 0; fi
if [ "$LEVEL" = core ] && LEVEL=dev is_installed dev; then exit 0; fi

mkdir -p .cache
if command -v flock > /dev/null; then exec 9> .cache/set-up.lock; flock 9; fi
if is_installed "$LEVEL"; then exit 0; fi    # another call made it while this one waited
STARTED=$SECONDS
choose_python
check_system_torch
check_disk $((2 + 7 * DRIVER * (1 - SYSTEM_TORCH)))
make_venv
forget_half_installed
install_torch
if [ "$LEVEL" = dev ]; then
    say "installing zhgpt with what tests and linters need"
    pip_install -c "$CONSTRAINTS" setuptools wheel
    pip_install -c "$CONSTRAINTS" -e ".[dev]"
    install_flash_attention_layer
    install_liger_layer
else
    say "installing zhgpt"
    pip_install -c "$CONSTRAINTS" -e .
fi
fingerprint > "$VENV/installed-$LEVEL"
say "$VENV is ready ($((SECONDS - STARTED)) s)"
