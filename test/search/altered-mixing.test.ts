/** What says how an index is mixed, altered: it is refused, by name, and never leads to another answer. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { folderSource } from "../../offline/store/folder-source.ts";
import { HEADER_BYTES } from "../../src/core/header.ts";
import { FILES, type Manifest, type MixingShape, manifestSchema } from "../../src/core/manifest.ts";
import { decodeMixing, MOST_EXPONENT, mixingLayout } from "../../src/core/mixing.ts";
import { random } from "../../src/core/random.ts";
import { openSearcher, openTier, type Searcher } from "../../src/core/search.ts";
import { type BuiltIndex, buildIndex } from "./built-index.ts";
import { mutate, mutateText, parsed, thrown } from "./mutations.ts";
import { bruteForce } from "./oracle.ts";
import { randomMixing } from "./random-mixing.ts";

/** Mutated files; of manifests, each of which opens an index, a fortieth. */
const FUZZ = Number(process.env.FUZZ ?? 20_000);
const MANIFESTS = Math.ceil(FUZZ / 40);
const [n, R] = [200, 90];
const generator = random(5, "altered-mixing");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
const rows = normal(n * R);
let index: BuiltIndex;
let shape: MixingShape;
let mixingFile: Buffer;

beforeAll(async () => {
  index = await buildIndex(rows, R, undefined, () => ({ ...randomMixing(R, generator, false), head: 16 }));
  shape = index.manifest.mixing!;
  mixingFile = await readFile(path.join(index.folder, FILES.mixing));
});
afterAll(() => index.remove());

describe.each(["rows", "fine", "coarse"] as const)("where %s are resident", (tier) => {
  let folder: string;
  let before: Searcher;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "altered-mixing-"));
    for (const name of Object.keys(index.manifest.files)) {
      await copyFile(path.join(index.folder, name), path.join(folder, name));
    }
    before = await openTier(index.manifest, index.source, loadKernel(), tier);
  });
  afterAll(() => rm(folder, { recursive: true }));

  const opened = async (bytes: Uint8Array) => {
    await writeFile(path.join(folder, FILES.mixing), bytes);
    return openTier(index.manifest, folderSource(folder), loadKernel(), tier);
  };
  const refused = (bytes: Uint8Array) =>
    expect(opened(bytes)).rejects.toThrow(expect.objectContaining({ name: "CorruptIndexError", file: FILES.mixing }));

  test("mixing.bin with one byte altered, anywhere, is refused, and what is open goes on", async () => {
    const gradient = normal(R);
    const truth = bruteForce(rows, gradient, n);
    expect(await (await opened(mixingFile)).search(gradient, n)).toMatchObject(truth);
    for (let round = 0; round < 20; round++) {
      const bytes = Uint8Array.from(mixingFile);
      bytes[round === 0 ? bytes.length - 1 : generator.below(bytes.length)] ^= 1 << generator.below(8);
      await refused(bytes);
      expect(await before.search(gradient, n)).toMatchObject(truth);
    }
  });
  test("mixing.bin with a byte too many or too few is refused", async () => {
    await refused(Buffer.concat([mixingFile, Buffer.of(0)]));
    await refused(mixingFile.subarray(0, -1));
  });
});

test(`of ${FUZZ} mutated files none is taken for a mixing that is not well formed`, () => {
  const { blocks } = shape;
  const { entriesAt } = mixingLayout(blocks);
  const bytes = Uint8Array.from(mixingFile);
  const header = bytes.slice(0, HEADER_BYTES);
  let accepted = 0;
  for (let round = 0; round < FUZZ; round++) {
    // Every other file has all its entries, and something altered before them.
    const file = round % 2 === 0 ? mutate(bytes, generator) : bytes.slice();
    if (round % 2 === 1) file.set(mutate(bytes.subarray(0, entriesAt), generator).subarray(0, entriesAt));
    const name = thrown(() => decodeMixing("x", file, n, shape));
    expect(name === null || name === "CorruptIndexError").toBe(true);
    if (name !== null) continue;
    accepted++;
    const { exponents, places, entries } = decodeMixing("x", file, n, shape);
    const wellFormed =
      file.length === bytes.length &&
      header.every((byte, at) => byte === file[at]) &&
      exponents.every((exponent) => Math.abs(exponent) <= MOST_EXPONENT) &&
      places.toSorted().every((place, at) => place === at) &&
      !entries.includes(-128);
    expect(wellFormed).toBe(true);
  }
  expect(accepted).toBeGreaterThan(0);
  const behind = new Uint8Array(bytes.length + 1);
  behind.set(bytes, 1);
  expect(thrown(() => decodeMixing("x", behind.subarray(1), n, shape))).toBe("RangeError");
}, 600_000);

describe("a manifest", () => {
  const answerOf = async (manifest: Manifest, gradient: Float32Array) =>
    (await openSearcher(manifest, index.source, loadKernel(), 1e8)).search(gradient, 5);
  const altered = (mixing: MixingShape | undefined): Manifest => ({ ...index.manifest, mixing });
  const widened = ([first, ...rest]: readonly number[], by: number) => [first + by, ...rest];
  const refused = (manifest: Manifest, file: string | RegExp) =>
    expect(answerOf(manifest, normal(R))).rejects.toThrow(
      expect.objectContaining({ name: "CorruptIndexError", file: expect.stringMatching(file) }),
    );

  test("of blocks that are not R coordinates together is refused", async () => {
    for (const by of [1, 16, -shape.blocks[0] + 512]) {
      await refused(altered({ ...shape, blocks: widened(shape.blocks, by) }), FILES.manifest);
    }
    await refused(altered({ ...shape, blocks: shape.blocks.slice(1) }), FILES.manifest);
  });
  test("of a head that leaves no tail is refused", async () => {
    for (const head of [96, 112, 2 ** 20 * 16]) await refused(altered({ ...shape, head }), FILES.manifest);
  });
  test.each([
    ["a head that is no multiple of sixteen", { blocks: [90], head: 24 }],
    ["no head", { blocks: [90], head: 0 }],
    ["no blocks", { blocks: [], head: 16 }],
    ["a block of no coordinates", { blocks: [90, 0], head: 16 }],
    ["a block wider than any may be", { blocks: [513], head: 16 }],
    ["a block of half a coordinate", { blocks: [89.5, 0.5], head: 16 }],
  ])("of %s is no manifest", (_, mixing) => {
    expect(manifestSchema.safeParse({ ...index.manifest, mixing }).success).toBe(false);
    expect(manifestSchema.safeParse({ ...index.manifest, mixing: shape }).success).toBe(true);
  });
  test("of another head, or of blocks of another length, is refused", async () => {
    // Files are loaded beside each other: any of the three that disagree may be the first.
    for (let head = 32; head < R; head += 16)
      await refused(altered({ ...shape, head }), /^(basis|coarse|mixing)\.bin$/);
    for (const blocks of [[R], Array(R).fill(1), [1, ...widened(shape.blocks, -1)], shape.blocks.toReversed()]) {
      await refused(altered({ ...shape, blocks }), FILES.mixing);
    }
  });
  test("of another shape whose files are as long is refused", async () => {
    const mix = () => ({ ...randomMixing(48, generator, false), head: 16 });
    const even = await buildIndex(normal(640 * 48), 48, undefined, mix);
    const { blocks } = even.manifest.mixing!;
    for (const mixing of [
      { blocks, head: 32 },
      { blocks: blocks.toReversed(), head: 16 },
    ]) {
      await expect(openSearcher({ ...even.manifest, mixing }, even.source, loadKernel(), 1e8)).rejects.toThrow(
        expect.objectContaining({ name: "CorruptIndexError", file: FILES.mixing }),
      );
    }
    await even.remove();
  });
  test("that does not list mixing.bin, or not as long as it is, is refused", async () => {
    const { [FILES.mixing]: listed, ...rest } = index.manifest.files;
    for (const files of [rest, { ...rest, [FILES.mixing]: { ...listed, bytes: listed.bytes + 64 } }]) {
      await refused({ ...index.manifest, files }, FILES.mixing);
    }
  });
  test("that says nothing of a mixing, where rows are divided, is refused", () =>
    refused(altered(undefined), /^(basis|coarse)\.bin$/));
  test("that says how rows are mixed, where they are not, is refused", async () => {
    const whole = await buildIndex(rows, R);
    const manifest = { ...whole.manifest, mixing: shape };
    const listing = { ...manifest, files: { ...manifest.files, [FILES.mixing]: index.manifest.files[FILES.mixing] } };
    for (const wrong of [manifest, listing]) {
      await expect(openSearcher(wrong, whole.source, loadKernel(), 1e8)).rejects.toThrow(
        expect.objectContaining({
          name: "CorruptIndexError",
          file: expect.stringMatching(/^(basis|mixing|coarse)\.bin$/),
        }),
      );
    }
    await whole.remove();
  });

  test(`of ${MANIFESTS} mutated ones leads to no answer but that of the index`, async () => {
    // Half of the mutations are in what says how it is mixed.
    const { mixing, ...others } = index.manifest;
    const gradient = normal(R);
    const { helpful, harmful } = bruteForce(rows, gradient, 5);
    for (let round = 0; round < MANIFESTS; round++) {
      const text =
        round % 2 === 0
          ? mutateText(JSON.stringify(index.manifest), generator)
          : `${JSON.stringify(others).slice(0, -1)},"mixing":${mutateText(JSON.stringify(mixing), generator)}}`;
      const manifest = parsed(text);
      if (manifest === null) continue;
      let answer: Awaited<ReturnType<typeof answerOf>> | null = null;
      try {
        answer = await answerOf(manifest, gradient);
      } catch (error) {
        const name = error instanceof Error ? error.name : error;
        expect(["CorruptIndexError", "BudgetError", "RangeError"]).toContain(name);
      }
      if (answer !== null) expect(answer).toMatchObject({ helpful, harmful });
    }
  }, 600_000);
});
