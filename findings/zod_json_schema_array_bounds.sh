#!/usr/bin/env bash
# zod 4.6.7, ajv 8.20.0: `z.fromJSONSchema` drops `minItems` and `maxItems` where a schema has no `items`.
#
# JSON Schema's bounds of an array stand on their own: `{"type": "array", "maxItems": 0}` is the empty array, and so ajv
# takes it. A validator that zod makes of the same schema takes arrays of any length; with `items` beside it, it does not.
# Who publishes an empty tuple, or an untyped list of bounded length, has it checked by one and not by the other.
#
# Seen:
#   {"type":"array","maxItems":0} and [1]: ajv refuses, zod takes
#   {"type":"array","minItems":2} and [1]: ajv refuses, zod takes
#   {"type":"array","items":{"type":"integer"},"maxItems":0} and [1]: ajv refuses, zod refuses
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund zod@4.6.7 ajv@8.20.0 >&2
cat >main.mjs <<'JS'
import { z } from "zod";
import Ajv from "ajv/dist/2020.js";

const ajv = new Ajv.default({ strict: false });
const seen = [
  { type: "array", maxItems: 0 },
  { type: "array", minItems: 2 },
  { type: "array", items: { type: "integer" }, maxItems: 0 },
].map((schema) => {
  const judged = [ajv.compile(schema)([1]), z.fromJSONSchema(schema).safeParse([1]).success];
  const [by_ajv, by_zod] = judged.map((taken) => (taken ? "takes" : "refuses"));
  console.log(`${JSON.stringify(schema)} and [1]: ajv ${by_ajv}, zod ${by_zod}`);
  return judged;
});
const expected = [[false, true], [false, true], [false, false]];
process.exit(JSON.stringify(seen) === JSON.stringify(expected) ? 0 : 1);
JS
node main.mjs
