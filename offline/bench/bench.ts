/** `npm run bench`: every figure that is asked of the product, one line each, or as JSON. */
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import type { Figure } from "./figure.ts";

/** One file a subject; each exports `measure(): Promise<Figure[]>`. */
const SUBJECTS: Record<string, () => Promise<{ measure(): Promise<Figure[]> }>> = {
  build: () => import("./build.ts"),
  edge: () => import("./edge.ts"),
  job: () => import("./job.ts"),
  compile: () => import("./compile.ts"),
  search: () => import("./search.ts"),
  route: () => import("./route.ts"),
  growth: () => import("./growth.ts"),
  evaluate: () => import("./evaluate.ts"),
};

/** Takes ten minutes and rewrites SEARCH.md: only when it is named. */
const NAMED_ONLY = new Set(["growth"]);

function line({ name, value, unit, goal, holds }: Figure): string {
  const verdict = goal === null ? "" : `  (goal ${goal} ${unit}: ${holds ? "holds" : "missed"})`;
  return `${name}: ${Number(value.toPrecision(4))} ${unit}${verdict}`;
}

const program = new Command("bench")
  .description("Measures the product's speed and memory. Close other programs first: times are of this machine, now.")
  .argument(
    "[subjects...]",
    `which of: ${Object.keys(SUBJECTS).join(", ")} (default: all but ${[...NAMED_ONLY].join(", ")})`,
  )
  .option("--json <file>", "write an array of {name, value, unit, goal, holds}")
  .action(async (subjects: string[], options: { json?: string }) => {
    const unknown = subjects.filter((subject) => !(subject in SUBJECTS));
    if (unknown.length > 0)
      throw new Error(`no such subject: ${unknown.join(", ")}; expected ${Object.keys(SUBJECTS).join(", ")}`);
    const figures: Figure[] = [];
    for (const [name, load] of Object.entries(SUBJECTS)) {
      if (subjects.length > 0 ? !subjects.includes(name) : NAMED_ONLY.has(name)) continue;
      const { measure } = await load();
      for (const figure of await measure()) {
        figures.push(figure);
        console.log(line(figure));
      }
    }
    if (options.json) writeFileSync(options.json, `${JSON.stringify(figures, null, 2)}\n`);
  });

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
