#!/usr/bin/env bash
# `make test`: the quick tests on two workers, then, one at a time, those that are long or start processes of their own.
# Both parts run whatever becomes of the other; arguments go to pytest, a report of each part to .cache/reports.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
NOTHING_COLLECTED=5 # pytest's exit code: TEST_ARGS chose tests of the other part only

part() { # NAME ARGUMENTS...
    local name=$1
    shift
    "${VENV:-.venv}/bin/python" -m pytest --part="$name" --junitxml=".cache/reports/test-$name.xml" -o junit_family=xunit1 "$@"
}

part quick -n 2 "$@"
quick=$?
if [ $quick -eq 2 ]; then exit 2; fi # Ctrl-C
part long "$@"
long=$?
if [ $quick -eq $NOTHING_COLLECTED ]; then exit $long; fi
if [ $long -eq $NOTHING_COLLECTED ] || [ $long -eq 0 ]; then exit $quick; fi
exit $long
