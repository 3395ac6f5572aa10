// The code of README.md does what it says, against the chat sample (see chat.test.js).
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const folder = fileURLToPath(new URL("../..", import.meta.url));

test("README.md", async (t) => {
  const text = await readFile(join(folder, "README.md"), "utf8");
  const blocks = [...text.matchAll(/```js\n(.*?)```\n\n```text\n(.*?)```/gs)];
  assert.equal(blocks.length, text.match(/```js/g).length, "a block says what it prints");
  assert.ok(blocks.length >= 3);
  const home = await mkdtemp(join(tmpdir(), "goverse-readme-"));
  t.after(() => rm(home, { recursive: true }));
  await mkdir(join(home, "node_modules"));
  await symlink(folder, join(home, "node_modules", "goverse-client"));
  for (const [i, [, code, says]] of blocks.entries()) {
    const file = join(home, `block${i}.mjs`);
    await writeFile(file, code.replaceAll("http://localhost:48000", process.env.GOVERSE_TEST_GATE));
    const { stdout } = await promisify(execFile)(process.execPath, [file], { timeout: 60_000 });
    assert.equal(stdout, says, code);
  }
});
