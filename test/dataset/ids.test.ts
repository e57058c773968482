import fc from "fast-check";
import { expect, test } from "vitest";
import type { ValueColumn } from "../../offline/dataset/column.ts";
import { checkUnique } from "../../offline/dataset/ids.ts";

const columnOf = (ids: readonly string[]): ValueColumn => ({
  kind: "values",
  name: "ids",
  n: ids.length,
  read: async (rows) => rows.map((row) => ids[row]!),
});

test("ids are refused exactly when one occurs twice, however many are looked at at once", async () => {
  const some = fc.array(fc.string({ maxLength: 2 }), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(some, fc.integer({ min: 1, max: 50 }), async (ids, atOnce) => {
      const error = await checkUnique(columnOf(ids), ids.length, atOnce).catch((reason: Error) => reason);
      if (new Set(ids).size === ids.length) {
        expect(error).toBeUndefined();
        return;
      }
      const [, id, one, other] = /got (".*") in rows (\d+) and (\d+)/s.exec(String(error)) ?? [];
      expect(Number(one)).toBeLessThan(Number(other));
      expect([ids[Number(one)], ids[Number(other)]]).toEqual([JSON.parse(id!), JSON.parse(id!)]);
    }),
  );
});
