import fc from "fast-check";
import { Packr } from "msgpackr";
import { expect, test } from "vitest";
import { checkNesting } from "../../src/msgpack-check.ts";

const msgpack = new Packr({ useRecords: false });
const leaf = fc.oneof(fc.integer(), fc.double(), fc.string(), fc.boolean(), fc.constant(null), fc.uint8Array());
const value = fc.oneof(leaf, fc.array(leaf, { maxLength: 40 }), fc.dictionary(fc.string(), fc.array(leaf)));

test("passes whatever an encoder makes", () => {
  fc.assert(
    fc.property(value, (given) => {
      checkNesting(new Uint8Array(msgpack.pack(given)));
    }),
  );
});

test("refuses every encoding that is cut short", () => {
  fc.assert(
    fc.property(value, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (given, share) => {
      const whole = new Uint8Array(msgpack.pack(given));
      expect(() => checkNesting(whole.subarray(0, Math.floor(share * whole.length)))).toThrow(RangeError);
    }),
  );
});

test("any bytes are refused with a RangeError, or can be decoded", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        checkNesting(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
        return;
      }
      msgpack.unpack(bytes);
    }),
    { numRuns: 5_000 },
  );
});
