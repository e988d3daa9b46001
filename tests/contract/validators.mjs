// Reads {schemas: [{schema, accepted, refused}]} and tells what ajv (2020-12, strict) and zod say against it.
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const Ajv = require("ajv/dist/2020").default;
const { z } = require("zod");

let text = "";
for await (const part of process.stdin) text += part;
const { schemas, formats } = JSON.parse(text);
const wrong = [];
const ajv = new Ajv({ strict: true, allErrors: true, formats: Object.fromEntries(formats.map((f) => [f, true])) });

const zodReads = (schema) => JSON.parse(JSON.stringify(schema), (key, value) =>
  value && typeof value === "object" && value.format === "uuid" ? { ...value, format: undefined } : value);

for (const { name, schema, accepted, refused } of schemas) {
  const judges = {
    ajv: () => {
      const validate = ajv.compile(schema);
      return (value) => (validate(value) ? null : ajv.errorsText(validate.errors));
    },
    zod: () => {
      const parser = z.fromJSONSchema(zodReads(schema));
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
