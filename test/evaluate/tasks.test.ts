import { Tensor } from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import {
  agreementOf,
  compressedLayers,
  compressedScores,
  exactScores,
  kernelsOf,
  withMeanQuery,
} from "../../offline/evaluate/score.ts";
import { TASKS } from "../../offline/evaluate/tasks/all.ts";
import { flipped } from "../../offline/evaluate/tasks/flips.ts";
import { prepare, trained, trainedModel, trainerFor } from "../../offline/evaluate/tasks/prepare.ts";
import { readPassages, SOURCE_NAMES } from "../../offline/evaluate/tasks/sources.ts";
import { continuedTexts, encoded, vocabularyOf } from "../../offline/evaluate/tasks/tokens.ts";
import { random } from "../../src/core/random.ts";

describe("data", () => {
  test("a fifth of the labels is flipped, each to another class, by the seed", () => {
    const labels = Array.from({ length: 50 }, (_, row) => row % 10);
    const { labels: now, wrong } = flipped(labels, 10, 0.2, 3);
    expect(wrong?.filter(Boolean).length).toBe(10);
    now.forEach((label, row) => {
      expect(label !== labels[row]).toBe(wrong?.[row]);
      expect(label).toBeLessThan(10);
    });
    expect(flipped(labels, 10, 0.2, 3)).toEqual({ labels: now, wrong });
    expect(flipped(labels, 10, 0, 3).wrong).toBeNull();
  });

  test("words by frequency from 2 on, 1 the others, 0 padding", () => {
    const vocabulary = vocabularyOf([["b", "a", "b"], ["c"]], 4);
    expect([...vocabulary]).toEqual([
      ["b", 2],
      ["a", 3],
    ]);
    expect([...encoded([["a", "c", "b", "b"], ["b"]], vocabulary, 3)]).toEqual([3n, 1n, 2n, 2n, 0n, 0n]);
  });

  test("each position's target is the next id, padding not counted", async () => {
    const { ids, target } = await continuedTexts(BigInt64Array.of(5n, 6n, 7n, 8n, 9n, 0n), 2).feeds([1, 0]);
    expect([...ids!.data]).toEqual([8n, 9n, 5n, 6n]);
    expect([...target!.data]).toEqual([9n, -100n, 6n, 7n]);
  });

  test("passages: sources in turn, each as often, none twice", () => {
    const passages = readPassages(5, 97, 1);
    expect(passages.map(({ source }) => source)).toEqual(
      Array.from({ length: 30 }, (_, at) => at % SOURCE_NAMES.length),
    );
    expect(new Set(passages.map(({ text }) => text)).size).toBe(30);
    expect(passages.every(({ text }) => text.length === 97)).toBe(true);
  });
});

describe("a prepared task", () => {
  test("holds gradients that agree with differences of the trained model's losses", async () => {
    const task = await TASKS.spam({ n: 30, m: 4, seed: 1, flip: 0 });
    const state = await trained(task);
    const { gradients, losses } = await prepare(task, await trainedModel(task, state));
    const trainer = await trainerFor(task);
    const feeds = await task.train.feeds([0, 1, 2]);
    const direction = new Map(
      [...state.parameters].map(([name, tensor]) => {
        const { normal } = random(1, name);
        return [name, Float32Array.from({ length: tensor.size }, normal)] as const;
      }),
    );
    const moved = async (by: number) => {
      const there = trainer.start();
      for (const [name, tensor] of state.parameters) {
        if (!(tensor.data instanceof Float32Array)) throw new Error("expected float32");
        const along = direction.get(name)!;
        const values = tensor.data.map((value, k) => value + by * along[k]!);
        there.parameters.set(name, new Tensor("float32", values, tensor.dims));
      }
      return trainer.losses(there, feeds);
    };
    // Small, because ReLU and maximum have kinks everywhere; so float32 leaves two digits.
    const step = 2e-5;
    const [ahead, behind] = [await moved(step), await moved(-step)];
    for (let row = 0; row < 3; row++) {
      let slope = 0;
      for (const { layer, values } of gradients.layers) {
        let at = row * layer.d;
        for (const { name } of layer.parameters)
          for (const along of direction.get(name)!) slope += along * values[at++]!;
      }
      expect(Math.abs((ahead[row]! - behind[row]!) / (2 * step) / slope - 1)).toBeLessThan(0.02);
    }
    expect(losses.length).toBe(34);
    await trainer.release();
  });

  test("compressed to nothing less than all, its influence is the exact one; through n × n and r × r alike", async () => {
    const prepared = await prepare(await TASKS.mlp({ n: 60, m: 3, seed: 1, flip: 0.2 }));
    const rule = { trace: 0.05 } as const;
    const exact = await exactScores(await kernelsOf(prepared), rule);
    const whole = prepared.gradients.layers.map(({ layer, values }) => ({ values, r: layer.d }));
    const all = await compressedScores(prepared, whole, rule);
    expect(agreementOf(all.influence, exact, 60)).toEqual({
      spearman: 1,
      "top-10 helpful": 1,
      "top-10 harmful": 1,
      "top-100 helpful": 1,
      "top-100 harmful": 1,
    });
    // R = 100 is 50 a layer, below n; the same rows twice over are 100 columns, above it.
    const small = await compressedLayers(prepared, "SJLT", 100, 1);
    const doubled = small.map(({ values, r }) => ({
      r: 2 * r,
      values: Float32Array.from(
        { length: 2 * values.length },
        (_, k) => values[Math.floor(k / (2 * r)) * r + (k % r)]!,
      ),
    }));
    const [narrow, wide] = [
      await compressedScores(prepared, small, rule, true),
      await compressedScores(prepared, doubled, rule, true),
    ];
    // Twice the columns: kernel, trace and damping double, the influence stays.
    narrow.influence.forEach((value, k) => {
      expect(wide.influence[k]).toBeCloseTo(value, 4);
    });
    narrow.own.forEach((value, i) => {
      expect(wide.own[i]).toBeCloseTo(value, 4);
    });
  });

  test("the influence on the mean query is the mean of the influences", async () => {
    const prepared = await prepare(await TASKS.mlp({ n: 40, m: 4, seed: 2, flip: 0 }));
    const each = await exactScores(await kernelsOf(prepared), "default");
    const mean = await exactScores(await kernelsOf(withMeanQuery(prepared)), "default");
    for (let i = 0; i < 40; i++) {
      const wanted = (each[i]! + each[40 + i]! + each[80 + i]! + each[120 + i]!) / 4;
      expect(Math.abs(mean[i]! - wanted)).toBeLessThan(1e-5 * Math.max(...each.map(Math.abs)));
    }
  });
});
