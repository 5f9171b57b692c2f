#!/usr/bin/env bash
# Checks what the clients of all languages are made from, clients/spec: that what is generated is what the module tells on
# each server that is named (SERVERS="system valkey-8.1"; the installed one by default), that the tests of the conformance
# list exist, and Python's low level: its format, its types, and its tests.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python=.tools/python-client/bin
# scripts/clients.sh has installed it, or has said in .tools/skipped why not.
[ -x "$python/python" ] || exit 0
generated=(clients/python/src/redis_gateway/_commands clients/python/src/redis_gateway/_errors.py)
tests=(clients/python/tests/vectors.py clients/python/tests/test_commands*.py clients/python/tests/test_vectors*.py)

for name in ${SERVERS:-system}; do
  for what in table vectors; do GW_SERVER=$name python3 clients/spec/generate.py "$what" --check; done
done
for language in python typescript go rust; do python3 clients/spec/generate.py "$language" --check; done
python3 clients/spec/conformance.py
"$python/python" - <<'PYTHON'
import json
import sys

from jsonschema import Draft202012Validator

shapes, schema = (json.load(open(f"clients/spec/replies{end}.json")) for end in ("", ".schema"))
problems = [f"{list(one.path)}: {one.message}" for one in Draft202012Validator(schema).iter_errors(shapes)]
sys.exit("clients/spec/replies.json is not as its schema says: " + "; ".join(problems) if problems else 0)
PYTHON

"$python/ruff" format --check --config clients/spec/ruff.toml clients/spec "${generated[@]}" "${tests[@]}"
"$python/ruff" check --quiet --config clients/spec/ruff.toml clients/spec "${generated[@]}" "${tests[@]}"
export MYPYPATH=clients/python/src:clients/python/tests:clients/spec
# The rest of the package is imported, and checked elsewhere.
mypy=("$python/mypy" --strict --python-version 3.10 --follow-imports silent --no-error-summary --cache-dir .tools/mypy)
"${mypy[@]}" -p redis_gateway._commands -p redis_gateway._errors -p gwspec
"${mypy[@]}" "${tests[@]}"
# pyright takes its settings from a file, and paths relative to it.
settings=.tools/pyright.json
from=$(realpath --relative-to "$(realpath .tools)" clients/python/src/redis_gateway)
printf '{"include": ["%s/_commands", "%s/_errors.py"], "typeCheckingMode": "strict", "pythonVersion": "3.10"}\n' \
  "$from" "$from" >"$settings"
"$python/pyright" --project "$settings" --pythonpath "$root/$python/python"

cd clients/python
PYTHONPATH=src "$root/$python/python" -m pytest --quiet --no-header -p no:cacheprovider "${tests[@]#clients/python/}"
