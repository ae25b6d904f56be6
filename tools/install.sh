#!/bin/sh
# install.sh VENV WHAT: make the virtual environment VENV if need be, and install WHAT (. or .[test]) into it, editable,
# in the versions of constraints.txt. PYTHON names the interpreter; unset = the first of 3.11 or later that is found.
set -eu

venv=$1
what=$2

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "install.sh: no Python 3.11 or later found; name one with PYTHON=..." >&2
    exit 1
}

if [ ! -x "$venv/bin/pip" ]; then
    python=$(find_python)
    "$python" -m venv "$venv" || {
        echo "install.sh: '$python -m venv' failed; Debian and Ubuntu have it in the package python3-venv" >&2
        exit 1
    }
fi
"$venv/bin/pip" install --constraint constraints.txt --editable "$what"
