/** `agreement`: how well each compressor's influence agrees with exact influence, by R and damping; masks with each other; M masks of R/M. */
import { COMPRESSORS } from "../compress/all.ts";
import { type DampingRule, nameOfRule } from "../estimate/estimator.ts";
import type { Experiment, Measurement } from "../experiment.ts";
import { agreementOf, compressedLayers, compressedScores, exactScores, kernelsOf } from "../score.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { prepare } from "../tasks/prepare.ts";

export interface AgreementSize {
  tasks: TaskName[];
  n: number;
  m: number;
  totals: number[];
  seeds: number[];
}

/** Damping rules at which compressed and exact influence are compared, like with like. */
const RULES: DampingRule[] = ["default", "paper", { trace: 0.01 }];
const MEMBERS = [4];

export function agreement({ tasks, n, m, totals, seeds }: AgreementSize): Experiment {
  const largest = Math.max(...totals);
  return {
    name: "agreement",
    title: "Agreement of compressed with exact influence, per query",
    settings: { n, m, totals: totals.join() },
    units: tasks.flatMap((task) =>
      seeds.map((seed) => ({ name: `${task}-${seed}`, measure: () => measure(task, n, m, totals, seed) })),
    ),
    plot: {
      x: "R",
      y: "spearman",
      line: "compressor",
      facet: "task",
      logarithmic: true,
      label: "Spearman correlation with exact influence (damping: default)",
      only: (of) => of.damping === "default" && of.compared === "exact" && Number(of.R) <= largest,
    },
  };
}

async function measure(name: TaskName, n: number, m: number, totals: number[], seed: number): Promise<Measurement[]> {
  const task = await TASKS[name]({ n, m, seed, flip: 0.2 });
  const prepared = await prepare(task);
  const kernels = await kernelsOf(prepared);
  const exact = new Map<DampingRule, Float64Array>();
  for (const rule of RULES) exact.set(rule, await exactScores(kernels, rule));
  const found: Measurement[] = [];
  const add = (
    compressor: string,
    R: number,
    rule: DampingRule,
    compared: string,
    got: Float64Array,
    with_: Float64Array,
  ) =>
    found.push({
      of: { task: task.name, compressor, R, damping: nameOfRule(rule), compared },
      seed,
      values: agreementOf(got, with_, n),
    });
  const wanted = exact.get("default") ?? new Float64Array();
  for (const { name: compressor, needs } of COMPRESSORS.filter((c) => c.name !== "none")) {
    for (const R of totals) {
      const layers = await compressedLayers(prepared, compressor, R, `${seed}/0`);
      for (const rule of RULES) {
        // Paper's damping and others only where the default is compared at the same R: the largest.
        if (rule !== "default" && R !== totals.at(-1)) continue;
        const { influence } = await compressedScores(prepared, layers, rule);
        add(compressor, R, rule, "exact", influence, exact.get(rule) ?? wanted);
        if (rule !== "default" || !(compressor === "dropout" || compressor.startsWith("factored"))) continue;
        const second = await compressedLayers(prepared, compressor, R, `${seed}/1`);
        const other = await compressedScores(prepared, second, rule);
        add(compressor, R, rule, "another mask", influence, other.influence);
      }
    }
    if (needs === "nothing" && compressor !== "dropout") continue;
    if (compressor !== "dropout" && compressor !== "factored importance dropout") continue;
    for (const members of MEMBERS) {
      const R = totals.at(-1) ?? 0;
      const total = new Float64Array(n * m);
      for (let member = 0; member < members; member++) {
        const layers = await compressedLayers(prepared, compressor, R / members, `${seed}/member ${member}`);
        const { influence } = await compressedScores(prepared, layers, "default");
        for (let k = 0; k < total.length; k++) total[k]! += influence[k]!;
      }
      add(`${compressor}, ${members} masks of R/${members}`, R, "default", "exact", total, wanted);
    }
  }
  return found;
}
