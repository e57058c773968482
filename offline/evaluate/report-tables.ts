/** Which tables of each experiment stand in the report; all figures are in table.md of its folder. */
import type { Pivot } from "./table.ts";

const likeWithLike: Pivot["only"] = (of) => of.damping === "default" && of.compared === "exact";

export const REPORT_TABLES: Record<string, readonly Pivot[]> = {
  agreement: [
    ...["spearman", "top-10 helpful", "top-10 harmful"].map((value): Pivot => {
      return {
        caption: `${value}, by task and R`,
        rows: "compressor",
        columns: ["task", "R"],
        value,
        only: likeWithLike,
      };
    }),
    {
      caption: "spearman at the largest R, by damping",
      rows: "compressor",
      columns: ["task", "damping"],
      value: "spearman",
      only: (of) => of.compared === "exact" && of.R === 4096 && !String(of.compressor).includes("masks"),
    },
    {
      caption: "two masks of the same kind with each other: spearman",
      rows: "compressor",
      columns: ["task", "R"],
      value: "spearman",
      only: (of) => of.compared === "another mask",
    },
  ],
  mislabeled: [
    {
      caption: "AUC of the influence on the mean test gradient",
      rows: "method",
      columns: ["damping"],
      value: "AUC",
      split: "task",
    },
    {
      caption: "AUC of self-influence",
      rows: "method",
      columns: ["task"],
      value: "AUC of self-influence",
      only: (of) => of.damping === "default",
    },
  ],
  size: [
    {
      caption: "spearman, by R",
      rows: "compressor",
      columns: ["R"],
      value: "spearman",
      split: "task",
      only: (of) => of.damping === "default",
    },
    {
      caption: "effective rank of H at this damping: directions that weigh more than λ, summed over layers",
      rows: "task",
      columns: ["damping"],
      value: "effective rank",
    },
    ...["default", "0.1·tr"].map(
      (damping): Pivot => ({
        caption: `AUC of the mean query less the exact one, damping ${damping} on both sides`,
        rows: "compressor",
        columns: ["R"],
        value: "AUC − exact",
        split: "task",
        only: (of) => of.damping === damping,
      }),
    ),
  ],
  cost: [
    {
      caption: "seconds to compress, by n and d",
      rows: "what",
      columns: ["n", "d"],
      value: "seconds",
      only: (of) => of.kind === "compress",
    },
    {
      caption: "peak megabytes beside the gradients, by n and d",
      rows: "what",
      columns: ["n", "d"],
      value: "megabytes",
      only: (of) => of.kind === "compress",
    },
    {
      caption: "seconds to precondition, by n and d",
      rows: "what",
      columns: ["n", "d"],
      value: "seconds",
      only: (of) => of.kind === "precondition",
    },
    {
      caption: "in the graph, in units of the layer's forward product",
      rows: "what",
      columns: ["d"],
      value: "of a forward product",
      only: (of) => of.kind === "in the graph",
    },
  ],
  lds: [
    {
      caption: "LDS, by task and damping",
      rows: "method",
      columns: ["damping"],
      value: "LDS",
      split: "task",
    },
  ],
  retraining: [
    {
      caption: "mean loss of the queries",
      rows: "method",
      columns: ["trained", "percent"],
      value: "query loss",
      split: "task",
    },
    {
      caption: "share of the most frequent class among what is trained on",
      rows: "method",
      columns: ["trained", "percent"],
      value: "most frequent class",
      split: "task",
    },
    {
      caption: "mean loss, under the model trained on all, of what is trained on",
      rows: "method",
      columns: ["trained", "percent"],
      value: "training loss before",
      split: "task",
    },
  ],
};
