import { mkdtempSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { readShard, writeShard } from "../../offline/gradients/shard.ts";

const KEY = "ab".repeat(32);
const shard = {
  first: 200,
  rows: 2,
  dimension: 3,
  gradients: Float32Array.of(1, 2, 3, 4, 5, 6),
  loss: Float32Array.of(0.5, 0.25),
  prediction: Int32Array.of(7, -1),
  valid: Uint8Array.of(1, 0),
};

describe("a shard", () => {
  let path: string;
  beforeEach(() => {
    path = join(mkdtempSync(join(tmpdir(), "shard-")), "train-00000.shard");
    writeShard(path, shard, KEY);
  });

  test("reads back as it was written", () => {
    expect(readShard(path, KEY)).toEqual(shard);
  });

  test("of other settings is refused", () => {
    expect(() => readShard(path, "cd".repeat(32))).toThrow(
      /train-00000\.shard: expected a shard of settings cdcdcdcdcdcd, got abababababab/,
    );
  });

  test("cut short is refused with both lengths", () => {
    truncateSync(path, 100);
    expect(() => readShard(path, KEY)).toThrow(/train-00000\.shard: expected 130 bytes, got 100/);
  });

  test("with any byte flipped is refused", () => {
    const whole = readFileSync(path);
    for (let at = 0; at < whole.length; at++) {
      const altered = Buffer.from(whole);
      altered[at]! ^= 0x10;
      writeFileSync(path, altered);
      expect(() => readShard(path, KEY), `byte ${at}`).toThrow(path);
    }
  });
});
