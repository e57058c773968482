/** `agreement`: how well each compressor's influence agrees with exact influence, by R and damping; masks with each other; M masks of R/M. */
import { COMPRESSORS } from "../compress/all.ts";
import { type DampingRule, nameOfRule } from "../estimate/estimator.ts";
import type { Experiment } from "../experiment.ts";
import type { Measurement } from "../measurement.ts";
import { agreementOf, compressedLayers, compressedScores, exactScores, kernelsOf } from "../score.ts";
import { TASKS, type TaskName } from "../tasks/all.ts";
import { type Prepared, prepare } from "../tasks/prepare.ts";

export interface AgreementSize {
  tasks: TaskName[];
  n: number;
  m: number;
  totals: number[];
  seeds: number[];
}

/** Damping rules at which compressed and exact influence are compared, like with like: all at the largest R, the first at every R. */
const RULES: DampingRule[] = ["default", "paper", { trace: 0.01 }];
/** Of these, two draws are compared with each other, and of the first two also MEMBERS masks of R/MEMBERS with one of R. */
const DRAWN_TWICE = ["dropout", "factored importance dropout", "factored importance 8r, then SJLT"];
const MEMBERS = 4;
const COMPARED = COMPRESSORS.map(({ name }) => name).filter((name) => name !== "none");

export function agreement({ tasks, n, m, totals, seeds }: AgreementSize): Experiment {
  // The compressors of a task come one after another and share what was prepared: only the last is held.
  let held: { key: string; value: Promise<Reference> } | null = null;
  const reference = (task: TaskName, seed: number) => {
    const key = `${task}-${seed}`;
    if (held?.key !== key) held = { key, value: referenceOf(task, n, m, seed) };
    return held.value;
  };
  return {
    name: "agreement",
    title: "Agreement of compressed with exact influence, per query",
    settings: { n, m, totals: totals.join() },
    units: tasks.flatMap((task) =>
      seeds.flatMap((seed) =>
        COMPARED.map((compressor) => ({
          name: `${task}-${seed}-${compressor.replace(/\W+/g, "-")}`,
          measure: async () => measure(await reference(task, seed), compressor, totals, seed),
        })),
      ),
    ),
    plot: {
      x: "R",
      y: "spearman",
      line: "compressor",
      facet: "task",
      logarithmic: true,
      label: "Spearman correlation with exact influence (damping: default)",
      only: (of) => of.damping === "default" && of.compared === "exact" && !String(of.compressor).includes("masks"),
    },
  };
}

interface Reference {
  prepared: Prepared;
  /** Exact influence [m, n] by damping rule. */
  exact: Map<DampingRule, Float64Array>;
}

async function referenceOf(name: TaskName, n: number, m: number, seed: number): Promise<Reference> {
  const prepared = await prepare(await TASKS[name]({ n, m, seed, flip: 0.2 }));
  const kernels = await kernelsOf(prepared);
  const exact = new Map<DampingRule, Float64Array>();
  for (const rule of RULES) exact.set(rule, await exactScores(kernels, rule));
  return { prepared, exact };
}

async function measure(
  { prepared, exact }: Reference,
  compressor: string,
  totals: readonly number[],
  seed: number,
): Promise<Measurement[]> {
  const { n, m, task } = prepared;
  const largest = Math.max(...totals);
  const found: Measurement[] = [];
  const scores = async (R: number, draw: string, rules: readonly DampingRule[]) => {
    const layers = await compressedLayers(prepared, compressor, R, `${seed}/${draw}`);
    const all: Float64Array[] = [];
    for (const rule of rules) all.push((await compressedScores(prepared, layers, rule)).influence);
    return all;
  };
  const add = (name: string, R: number, rule: DampingRule, compared: string, got: Float64Array, other: Float64Array) =>
    found.push({
      of: { task: task.name, compressor: name, R, damping: nameOfRule(rule), compared },
      seed,
      values: agreementOf(got, other, n),
    });
  const wanted = (rule: DampingRule) => exact.get(rule) ?? new Float64Array();
  for (const R of totals) {
    const rules = R === largest ? RULES : RULES.slice(0, 1);
    const own = await scores(R, "0", rules);
    for (const [index, rule] of rules.entries()) add(compressor, R, rule, "exact", own[index]!, wanted(rule));
    if (!DRAWN_TWICE.includes(compressor)) continue;
    const [again] = await scores(R, "1", ["default"]);
    add(compressor, R, "default", "another mask", own[0]!, again!);
  }
  if (DRAWN_TWICE.indexOf(compressor) === 0 || DRAWN_TWICE.indexOf(compressor) === 1) {
    const total = new Float64Array(n * m);
    for (let member = 0; member < MEMBERS; member++) {
      const [influence] = await scores(largest / MEMBERS, `member ${member}`, ["default"]);
      for (let k = 0; k < total.length; k++) total[k]! += influence![k]!;
    }
    add(`${compressor}, ${MEMBERS} masks of R/${MEMBERS}`, largest, "default", "exact", total, wanted("default"));
  }
  return found;
}
