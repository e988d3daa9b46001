// Reads {schemas: [{schema, draft, accepted, refused}]} and tells what ajv (strict) and zod say against it. A draft is
// "2020-12" unless it is "draft-07".
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const drafts = { "2020-12": require("ajv/dist/2020").default, "draft-07": require("ajv").default };
const { z } = require("zod");

let text = "";
for await (const part of process.stdin) text += part;
const { schemas, formats } = JSON.parse(text);
const wrong = [];
const options = { strict: true, allErrors: true, formats: Object.fromEntries(formats.map((f) => [f, true])) };
// trailing parts of an array may be left out, which ajv takes for a mistake
const ajvs = {
  "2020-12": new drafts["2020-12"](options),
  "draft-07": new drafts["draft-07"]({ ...options, strictTuples: false }),
};
const targets = { "2020-12": "draft-2020-12", "draft-07": "draft-7" };

const zodReads = (schema) => JSON.parse(JSON.stringify(schema), (key, value) =>
  value && typeof value === "object" && value.format === "uuid" ? { ...value, format: undefined } : value);

for (const { name, schema, accepted, refused, draft = "2020-12" } of schemas) {
  const ajv = ajvs[draft];
  const judges = {
    ajv: () => {
      const validate = ajv.compile(schema);
      return (value) => (validate(value) ? null : ajv.errorsText(validate.errors));
    },
    zod: () => {
      const parser = z.fromJSONSchema(zodReads(schema), { defaultTarget: targets[draft] });
      return (value) => parser.safeParse(value).error?.message ?? null;
    },
  };
  for (const [judge, make] of Object.entries(judges)) {
    try {
      const complaint = make();
      for (const value of accepted) {
        const said = complaint(value);
        if (said) wrong.push(`${name}: ${judge} refuses ${JSON.stringify(value)}: ${said}`);
      }
      for (const value of refused) {
        if (!complaint(value)) wrong.push(`${name}: ${judge} takes ${JSON.stringify(value)}`);
      }
    } catch (error) {
      wrong.push(`${name}: ${judge} cannot read ${JSON.stringify(schema)}: ${error.message}`);
    }
  }
}
console.log(JSON.stringify(wrong));
