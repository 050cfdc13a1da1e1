#!/usr/bin/env bash
# Type-check the wheel: checkers cannot follow the mapping of kernels/ in an editable install.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m build --no-isolation --outdir "$folder" . >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
.venv/bin/python -m zipfile -e "$folder"/*.whl "$folder/site"
config=$PWD/pyproject.toml
python=$PWD/.venv/bin/python
mypy=$PWD/.venv/bin/mypy
cd "$folder/site"
"$mypy" --config-file "$config" --python-executable "$python" --cache-dir "$folder/cache" -p fastthermo
