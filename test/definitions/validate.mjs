// Validates what "go run ./test/definitions DIR --out OUT" has made, by an independent validator:
//
//	npm install --prefix TOOLS @apidevtools/swagger-parser@12.0.0
//	NODE_PATH=TOOLS/node_modules node test/definitions/validate.mjs OUT
//
// apiDefinition.swagger.json must be valid OpenAPI 2.0. It ends with 1 if one is not.
import { createRequire } from 'node:module';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

// NODE_PATH holds for require alone.
const { default: SwaggerParser } = createRequire(import.meta.url)('@apidevtools/swagger-parser');

let valid = 0;
let invalid = 0;
for (const entry of readdirSync(process.argv[2], { recursive: true })) {
  if (!entry.endsWith('apiDefinition.swagger.json')) continue;
  try {
    await SwaggerParser.validate(join(process.argv[2], entry), { resolve: { external: false } });
    valid++;
  } catch (e) {
    invalid++;
    console.log(`INVALID ${entry}: ${String(e.message).slice(0, 500)}`);
  }
}
console.log(`${valid} valid, ${invalid} invalid`);
process.exit(invalid > 0 || valid === 0 ? 1 : 0);
