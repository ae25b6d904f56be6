#!/bin/sh
# install.sh VENV: make the virtual environment VENV if need be and install Octavo into it, editable, with everything it needs in
# the versions of constraints.txt. The native kernels are compiled, for this machine's processor, while the packages are downloaded.
# install.sh VENV test: add what the tests need; nothing is compiled.
#
# PYTHON names the interpreter; unset = the first of 3.11 or later that is found. OCTAVO_ISAS=all compiles the kernels for every
# instruction set (CMakeLists.txt).
set -eu

venv=$1
extra=${2:-}

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

make_venv() {
    python=$(find_python)
    "$python" -m venv "$venv" || {
        echo "install.sh: '$python -m venv' failed; Debian and Ubuntu have it in the package python3-venv" >&2
        exit 1
    }
}

# The requirements that pyproject.toml lists under a key: dependencies, or the extra named.
requirements() {
    "$venv/bin/python" - "$1" <<'PYTHON'
import sys, tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join(project["dependencies"] if sys.argv[1] == "dependencies" else project["optional-dependencies"][sys.argv[1]]))
PYTHON
}

# Most of what is installed is never imported: what is gets compiled to bytecode when it is used first.
install() {
    requirements "$1" >"$venv/$1.txt"
    "$venv/bin/pip" install --no-compile --constraint constraints.txt --requirement "$venv/$1.txt"
}

build() {
    "$venv/bin/pip" install --no-compile --no-deps --config-settings "cmake.define.OCTAVO_ISAS=${OCTAVO_ISAS:-native}" --editable . \
        >"$venv/build.log" 2>&1
}

[ -x "$venv/bin/pip" ] || make_venv
if [ -n "$extra" ]; then
    install "$extra"
    exit
fi
echo "Compiling the kernels (output in $venv/build.log) and installing packages ..."
build &
build=$!
install dependencies || { kill "$build" 2>/dev/null; exit 1; }
wait "$build" || {
    cat "$venv/build.log" >&2
    exit 1
}
