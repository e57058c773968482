/** A file that is not the one published is refused, by name; and no bytes whatever make the reader hang or read beyond them. */
import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadKernel } from "../../offline/serve/kernel.ts";
import { folderSource } from "../../offline/store/folder-source.ts";
import { basisBytes, decodeBasis } from "../../src/core/basis.ts";
import { checkHeader, encodeHeader } from "../../src/core/header.ts";
import { FILES } from "../../src/core/manifest.ts";
import { coarseLayout, longRows } from "../../src/core/plane.ts";
import { random } from "../../src/core/random.ts";
import { BudgetError, type Tier } from "../../src/core/resident.ts";
import { openSearcher, openTier } from "../../src/core/search.ts";
import { CorruptIndexError } from "../../src/core/source.ts";
import { type BuiltIndex, buildIndex } from "./built-index.ts";
import { mutate, mutateText, parsed, thrown } from "./mutations.ts";

/** Mutated headers; of manifests, each of which opens an index, a twentieth. */
const FUZZ = Number(process.env.FUZZ ?? 20_000);
const MANIFESTS = Math.ceil(FUZZ / 20);
const n = 37;
const R = 24;
const generator = random(4, "altered");
const normal = (length: number) => Float32Array.from({ length }, () => generator.normal());
let index: BuiltIndex;
let folder: string;

beforeAll(async () => {
  index = await buildIndex(normal(n * R), R);
  folder = await mkdtemp(path.join(tmpdir(), "altered-"));
});
afterAll(async () => {
  await index.remove();
  await rm(folder, { recursive: true });
});

/** Opens a copy of the index after `alter` has had its way with one file, and asks it everything. */
async function askAltered(file: string, tier: Tier, alter: (copy: string) => Promise<void>): Promise<void> {
  for (const name of Object.keys(index.manifest.files))
    await copyFile(path.join(index.folder, name), path.join(folder, name));
  await alter(path.join(folder, file));
  const searcher = await openTier(index.manifest, folderSource(folder), loadKernel(), tier);
  await searcher.search(normal(R), n);
}

/** A byte of rows.f32 in a row that long.f32 does not have: the others are read there. */
async function ofShortRow(): Promise<number> {
  const coarse = await readFile(path.join(index.folder, FILES.coarse));
  const place = longRows(n) + generator.below(n - longRows(n));
  return 4 * R * coarse.readUInt32LE(coarseLayout(n, R).orderAt + 4 * place) + generator.below(4 * R);
}

describe.each([
  ["rows", [FILES.basis, FILES.coarse, FILES.rows]],
  ["fine", [FILES.basis, FILES.coarse, FILES.fine, FILES.rowChecksums, FILES.long, FILES.rows]],
  ["coarse", [FILES.basis, FILES.coarse, FILES.rowChecksums, FILES.long, FILES.rows]],
] as const)("where %s are resident", (tier, files) => {
  test("the index as it is answers", () => askAltered(FILES.basis, tier, async () => {}));

  describe.each(files)("%s is refused by name", (file) => {
    const refused = (alter: (copy: string) => Promise<void>) =>
      expect(askAltered(file, tier, alter)).rejects.toThrow(
        expect.objectContaining({ name: "CorruptIndexError", file }),
      );

    test("with one byte altered, anywhere", async () => {
      for (let round = 0; round < 20; round++) {
        await refused(async (copy) => {
          const bytes = await readFile(copy);
          const anywhere = round === 0 ? 0 : generator.below(bytes.length);
          bytes[file === FILES.rows && tier !== "rows" ? await ofShortRow() : anywhere] ^= 1 << generator.below(8);
          await writeFile(copy, bytes);
        });
      }
    });
    test("with a byte too many", () => {
      // Where rows are read one by one, what lies after the last is never looked at.
      if ((file === FILES.rows || file === FILES.long) && tier !== "rows") return;
      return refused(async (copy) => writeFile(copy, Buffer.concat([await readFile(copy), Buffer.of(0)])));
    });
  });

  test("a file that ends early is refused", () =>
    expect(askAltered(FILES.coarse, tier, (copy) => truncate(copy, 1000))).rejects.toThrow(CorruptIndexError));
});

test("an altered file of long rows is refused by name", async () => {
  const uneven = normal(n * R).map((value, at) => (at < 2 * R ? value : value / 1000));
  const other = await buildIndex(uneven, R);
  const file = path.join(other.folder, FILES.long);
  const bytes = await readFile(file);
  bytes[generator.below(bytes.length)] ^= 1;
  await writeFile(file, bytes);
  for (const [tier, longest] of [
    ["fine", 0],
    ["coarse", Math.ceil(n / 4)],
  ] as const) {
    await expect(openTier(other.manifest, other.source, loadKernel(), tier, longest)).rejects.toThrow(
      expect.objectContaining({ name: "CorruptIndexError", file: FILES.long }),
    );
  }
  await other.remove();
});

test("a manifest that lists no coarse plane, or one of another length, is refused", async () => {
  const { [FILES.coarse]: coarse, ...rest } = index.manifest.files;
  for (const files of [rest, { ...rest, [FILES.coarse]: { ...coarse, bytes: coarse.bytes - 1 } }]) {
    await expect(openSearcher({ ...index.manifest, files }, index.source, loadKernel(), 1e9)).rejects.toThrow(
      CorruptIndexError,
    );
  }
});

test("a budget that the coarse plane exceeds is refused, with what it needs", async () => {
  const opened = openSearcher(index.manifest, index.source, loadKernel(), 1000);
  await expect(opened).rejects.toThrow(BudgetError);
  await expect(opened).rejects.toThrow(/expected at most 1000 bytes resident, needs \d+/);
});

test(`no header of ${FUZZ} mutated ones is taken for another, nor does a basis of any bytes do more than throw`, async () => {
  const expected = { kind: "basis", n, dimension: R, stride: 0 } as const;
  const basis = new Uint8Array(await readFile(path.join(index.folder, FILES.basis)));
  const header = encodeHeader(expected);
  for (let round = 0; round < FUZZ; round++) {
    const bytes = mutate(round % 2 === 0 ? header : basis, generator);
    const same = bytes.length >= 64 && header.every((byte, at) => bytes[at] === byte);
    expect(thrown(() => checkHeader("x", bytes, expected))).toBe(same ? null : "CorruptIndexError");
    const decoded = thrown(() => decodeBasis("x", bytes, n, R));
    if (!same || bytes.length !== basisBytes(R)) expect(decoded).toBe("CorruptIndexError");
    else expect(decoded === null || decoded === "CorruptIndexError").toBe(true);
  }
}, 600_000);

test(`no manifest of ${MANIFESTS} mutated ones leads to an answer but that of the index`, async () => {
  const text = JSON.stringify(index.manifest);
  const gradient = normal(R);
  const truth = await openSearcher(index.manifest, index.source, loadKernel(), 1e9);
  const { helpful, harmful } = await truth.search(gradient, 5);
  for (let round = 0; round < MANIFESTS; round++) {
    const manifest = parsed(mutateText(text, generator));
    if (manifest === null) continue;
    let answer: Awaited<ReturnType<typeof truth.search>> | null = null;
    try {
      answer = await (await openSearcher(manifest, index.source, loadKernel(), 1e8)).search(gradient, 5);
    } catch (error) {
      expect(["CorruptIndexError", "BudgetError", "RangeError"]).toContain(error instanceof Error ? error.name : error);
    }
    if (answer !== null) expect(answer).toMatchObject({ helpful, harmful });
  }
}, 600_000);
