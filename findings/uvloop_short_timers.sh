#!/usr/bin/env bash
# uvloop 0.23.0: `call_later` with less than half a millisecond returns a handle that is no timer: it has no `when()`.
#
# asyncio documents a TimerHandle for every `call_later`, and its own loop gives one also for 0 seconds. Code that moves a
# deadline (a keepalive, a grace period that may be 0) by asking the old handle when it would have fired works on asyncio
# and raises AttributeError on uvloop, only where the delay is short.
#
# Seen:
#   asyncio: call_later(0) TimerHandle has when: True; call_later(1) TimerHandle has when: True
#   uvloop: call_later(0) Handle has when: False; call_later(1) TimerHandle has when: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 >&2
cat >"$folder/main.py" <<'PY'
import asyncio
import sys

import uvloop

seen = {}
for name, new_loop in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
    loop = new_loop()
    handles = {delay: loop.call_later(delay, print) for delay in (0, 1)}
    seen[name] = {delay: (type(each).__name__, hasattr(each, "when")) for delay, each in handles.items()}
    print(f"{name}:", "; ".join(f"call_later({d}) {kind} has when: {has}" for d, (kind, has) in seen[name].items()))
    for each in handles.values():
        each.cancel()
    loop.close()
timer = ("TimerHandle", True)
sys.exit(seen != {"asyncio": {0: timer, 1: timer}, "uvloop": {0: ("Handle", False), 1: timer}})
PY
"$folder/venv/bin/python" "$folder/main.py"
