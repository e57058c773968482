/** Hessian-free: the inner product of the gradients alone, −g_q·g_i (TracIn at one checkpoint, arXiv 2002.08484; Charpiat et al., 2019). */
import type { Estimator } from "./estimator.ts";

export const hessianFree: Estimator = {
  name: "Hessian-free",
  influence: ({ cross }) => cross.map((value) => -value),
};
