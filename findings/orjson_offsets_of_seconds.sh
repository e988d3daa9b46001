#!/usr/bin/env bash
# orjson 3.13.0, CPython: a time whose UTC offset has seconds may be written with a minute of 60.
#
# One would guess that every datetime is written as a time of RFC 3339, or refused. But the seconds of the offset are
# rounded to minutes, and 59 minutes and more than 30 seconds become 60 without a carry, which readers refuse. Such
# offsets are those of places before they had a zone, which ZoneInfo gives for old dates.
#
# Seen, for offsets of -0:59:36 and +0:19:32:
#   orjson:   -00:60 +00:20
#   pydantic: -00:59 +00:19   (cut off)
#   msgspec:  -01:00 +00:20   (rounded, with a carry)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check orjson==3.13.0 pydantic==2.14.4 msgspec==0.23.0 >&2
"$folder/venv/bin/python" - <<'PY'
import sys
from datetime import datetime, timedelta, timezone

import msgspec
import orjson
from pydantic_core import to_json

times = [datetime(1880, 1, 1, tzinfo=timezone(timedelta(seconds=seconds))) for seconds in (-3576, 1172)]
writers = {"orjson": orjson.dumps, "pydantic": to_json, "msgspec": msgspec.json.encode}
seen = {name: " ".join(write(at).decode()[-7:-1] for at in times) for name, write in writers.items()}
for name, offsets in seen.items():
    print(f"{name + ':':9} {offsets}")
sys.exit(list(seen.values()) != ["-00:60 +00:20", "-00:59 +00:19", "-01:00 +00:20"])
PY
