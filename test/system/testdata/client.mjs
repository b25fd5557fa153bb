// A caller in Node.js, built-in modules only. The relay's URL is the first argument, the key comes by standard input.
// It prints "ok" as its last line if every answer was right. Trust comes from NODE_EXTRA_CA_CERTS.
import assert from "node:assert";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const base = process.argv[2];
const key = readFileSync(0, "utf8").trim();
const headers = { "X-API-Key": key };

const got = await fetch(`${base}/get?a=1&b=%20x`, { headers });
assert.equal(got.status, 200);
const seen = await got.json();
assert.deepEqual(seen.args, { a: ["1"], b: [" x"] });
assert.ok(!JSON.stringify(seen).includes(key), "the key went on to the upstream");

const body = Buffer.alloc(3_000_000, "node");
const digest = createHash("sha256").update(body).digest("hex");
const posted = await fetch(`${base}/x/digest`, { method: "POST", body, headers });
assert.equal(await posted.text(), `${body.length} ${digest} ${body.length}`);

const stream = new ReadableStream({
  start(c) {
    for (let i = 0; i < 100; i++) c.enqueue(Buffer.alloc(1000, i));
    c.close();
  },
});
const streamed = await fetch(`${base}/x/digest`, { method: "POST", body: stream, duplex: "half", headers });
assert.match(await streamed.text(), /^100000 /);

const events = await fetch(`${base}/x/events?n=3`, { headers });
let text = "", chunks = 0;
for await (const chunk of events.body) {
  text += Buffer.from(chunk).toString();
  chunks++;
}
assert.equal(text.split("\n\n").length - 1, 3);
assert.ok(chunks >= 3, "the events were collected");

await assert.rejects(async () => {
  const broken = await fetch(`${base}/x/breaks?framing=chunks`, { headers });
  if (broken.status !== 200) throw new Error(`status ${broken.status}`);
  await broken.arrayBuffer();
}, "half an answer looks whole");

const refused = await fetch(`${base}/get`);
assert.equal(refused.status, 401);
assert.equal((await refused.json()).origin, "relay");

const all = await Promise.all(Array.from({ length: 50 }, (_, i) => fetch(`${base}/base64/encode/n${i}`, { headers })));
for (const [i, r] of all.entries()) assert.equal(Buffer.from(await r.text(), "base64").toString(), `n${i}`);
console.log("ok");
