#!/usr/bin/env bash
# msgspec 0.22.0, CPython: a dataclass that msgspec itself has built loses its defaults when msgspec writes it.
#
# One would guess that what was read with a default is written with it, as it is for a dataclass that Python built: both
# are equal, and both answer `.total`. But a plain default that was not sent stays on the class, the instance does not
# hold it, and the encoder writes what the instance holds.
#
# Seen:
#   built by Python: {"items":[1],"total":0}
#   read by msgspec: {"items":[1]}
#   equal:           True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check msgspec==0.22.0 >&2
"$folder/venv/bin/python" - <<'PY'
import sys
from dataclasses import dataclass

import msgspec


@dataclass
class Page:
    items: list[int]
    total: int = 0


built, read = Page([1]), msgspec.json.decode(b'{"items":[1]}', type=Page)
written = [msgspec.json.encode(page).decode() for page in (built, read)]
print(f"built by Python: {written[0]}\nread by msgspec: {written[1]}\nequal:           {built == read}")
sys.exit(written != ['{"items":[1],"total":0}', '{"items":[1]}'] or built != read)
PY
