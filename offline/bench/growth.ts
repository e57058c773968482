/**
 * What a query costs as n and R grow, on Node with all rows in memory, in turns with native brute force. Real vectors: the
 * demonstration's digits with 4,096 kept coordinates and parts of them; beyond 60,000 rows, rows again with noise. Writes the plot
 * and the table of SEARCH.md.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { strideOf } from "../../src/core/plane.ts";
import { plotOf } from "../evaluate/plot.ts";
import { markdown, summarised } from "../evaluate/table.ts";
import { readManifest } from "../store/publish.ts";
import { atMost, type Figure } from "./figure.ts";
import { cutIndex, demonstrationWith, readQueries, type Timed, TOP, timeSearch } from "./vectors.ts";

const WIDEST = 4096;
const MOST_DIGITS = 60_000;
/** R where n grows, and n where R grows. */
const FIXED_R = 128;
const SIZES = [10_000, 30_000, 100_000, 300_000, 1_000_000];
const DIMENSIONS = [64, 128, 256, 512, 1024, 2048, WIDEST];
const QUERIES = 64;
const ROUNDS = 40;

interface Point extends Timed {
  series: string;
  n: number;
  R: number;
}

export async function measure(): Promise<Figure[]> {
  const index = await demonstrationWith("mnist-4096", (config) => ({ ...config, r: { total: WIDEST } }));
  const points: Point[] = [];
  for (const n of SIZES) points.push(await at(index, `n, R = ${FIXED_R}`, n, FIXED_R));
  for (const R of DIMENSIONS)
    points.push(await at(index, `R, n = ${MOST_DIGITS.toLocaleString("en")}`, MOST_DIGITS, R));
  record(points);
  const widest = points.at(-1)!;
  const name = `search: n = ${MOST_DIGITS}, R = ${WIDEST}, top ${TOP} of both ends, certified, on Node`;
  return [
    ...points.map(({ n, R, one }) => atMost(`search: n = ${n}, R = ${R}, on Node`, one, "ms")),
    atMost(`${name}: against native brute force, one end`, widest.one / widest.native, "×", 0.3),
    atMost(`${name}, scanning every row: against native`, widest.every / widest.native, "×", 0.3),
    atMost(`${name}: bytes of codes read a query, of ${MOST_DIGITS * strideOf(WIDEST)}`, widest.bytes, "bytes"),
  ];
}

async function at(index: string, series: string, n: number, R: number): Promise<Point> {
  const queries = readQueries(index, QUERIES, R);
  const own = n === readManifest(index).n && R === WIDEST;
  const folder = own ? index : mkdtempSync(join(tmpdir(), "influence-bench-"));
  try {
    const manifest = own ? readManifest(index) : await cutIndex(index, folder, n, R);
    return { series, n, R, ...(await timeSearch(folder, manifest, queries, ROUNDS)) };
  } finally {
    if (!own) rmSync(folder, { recursive: true });
  }
}

const beside = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const LINES = {
  one: "certified, both ends",
  every: "the same, every row scanned",
  native: "native brute force, one end",
} as const;

/** Draws a plot for each series, and writes the table between the marks of SEARCH.md. */
function record(points: readonly Point[]): void {
  for (const [file, x] of [
    ["growth-n.svg", "n"],
    ["growth-r.svg", "R"],
  ] as const) {
    const measurements = points
      .filter(({ series }) => series.startsWith(x))
      .flatMap((point) =>
        (["one", "every", "native"] as const).map((which) => ({
          of: { [x]: point[x], line: LINES[which], against: `against ${point.series}` },
          seed: 0,
          values: { ms: point[which] },
        })),
      );
    const plot = {
      x,
      y: "ms",
      line: "line",
      facet: "against",
      logarithmic: true,
      logarithmicY: true,
      label: "milliseconds, median",
    };
    writeFileSync(beside(file), plotOf(summarised(measurements), plot));
  }
  const head = [
    "n",
    "R",
    "one query",
    "every row scanned",
    "native, one end",
    "÷ native",
    "MB of codes read",
    "re-scored, % of n",
  ];
  const rows = points.map(({ n, R, one, every, native, bytes, rescored }) => [
    n.toLocaleString("en"),
    String(R),
    ...[one, every, native].map((time) => time.toPrecision(3)),
    (one / native).toFixed(2),
    `${(bytes / 1e6).toPrecision(3)} of ${((n * strideOf(R)) / 1e6).toPrecision(3)}`,
    rescored.toPrecision(2),
  ]);
  const machine = `${cpus()[0]?.model ?? "an unknown processor"}, Node ${process.version}`;
  const table = `On ${machine}; times in milliseconds, medians of ${ROUNDS} rounds that take turns.\n\n${markdown(head, rows, 0)}`;
  const document = beside("SEARCH.md");
  const [before, after] = readFileSync(document, "utf8").split(/(?<=<!-- growth -->\n).*(?=<!-- end of growth -->)/s);
  writeFileSync(document, `${before}\n${table}\n\n${after}`);
}
