import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { pointerKey } from "../../src/core/manifest.ts";
import { openBrowser } from "./browser.ts";
import { type Served, serveSynthetic } from "./server.ts";

const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

let served: Served;
let browser: Browser;
let page: Page;
/** What must not happen on any visit: errors, and requests to anyone but the page's own server. */
let faults: string[];

beforeAll(async () => {
  served = await serveSynthetic([
    { name: "digits", seed: 1, n: 500, queries: 200, images: true },
    { name: "words", seed: 2, n: 200, queries: 20, images: false },
  ]);
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  await served?.close();
});
afterEach(async () => {
  await page.close();
  expect(faults).toEqual([]);
});

async function visit(hash = "", options: BrowserContextOptions = {}): Promise<void> {
  page = await browser.newPage({ viewport: DESKTOP, ...options });
  faults = [];
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("requestfailed", (request) => {
    const failure = request.failure()?.errorText ?? "";
    if (failure !== "net::ERR_ABORTED") faults.push(`${request.url()} ${failure}`);
  });
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(served.url).origin) faults.push(request.url());
  });
  await page.goto(served.url + hash);
}

const answered = (id: string) => page.locator(".asked .id", { hasText: new RegExp(`^${id}$`) }).waitFor();
const rowsOf = (kind: "helpful" | "harmful") => page.locator(`.${kind} .neighbour`);
const tile = (id: string) => page.locator(`.tile[data-id="${id}"]`);
const focused = () => page.evaluate(() => document.activeElement?.getAttribute("data-id"));
const chosen = () => page.locator('.tile[aria-selected="true"]').getAttribute("data-id");

test("opens with the worst misclassified digit and its neighbours, all images there", async () => {
  await visit();
  await answered("test-197");
  expect(await page.locator(".asked h2").textContent()).toBe("A 7, read as 2");
  expect(await rowsOf("helpful").count()).toBe(10);
  expect(await rowsOf("harmful").count()).toBe(10);
  for (const image of await page.locator("img").all()) {
    await image.scrollIntoViewIfNeeded();
    await expect.poll(() => image.evaluate((node: HTMLImageElement) => node.naturalWidth)).toBe(28);
  }
  expect(await page.locator(".certificate").textContent()).toMatch(/^Exact: proved against all 500 training examples/);
  expect(await page.locator(".times").textContent()).toMatch(
    /^(Search \S+ ms · )?(Server \S+ ms · )?Round trip \S+ ms$/i,
  );
  expect(await page.locator("#facts").textContent()).toContain("32 of 1,100");
  const trust = page.locator("#trust");
  expect(await trust.locator(".verdict").textContent()).toBe(
    "R\u00a0=\u00a032 is enough (9.1 of ten), R\u00a0=\u00a08 is not (4.0 of ten). compressor: grid does worse.",
  );
  expect(await trust.locator("code").allTextContents()).toEqual(["compressor: grid"]);
  const lines = await trust.locator("table").first().locator("tbody tr").allInnerTexts();
  expect(lines.map((line) => line.split("\t"))).toEqual([
    ["This index", "9.1", "0.91"],
    ["dropout, R = 8", "4.0", "0.40"],
    ["grid, same R", "3.0", "0.30"],
    ["Two seeds with each other", "7.2", "0.72"],
  ]);
});

test("shows what the API answers: order, signs, bars on one scale, mislabeled ones with the truth", async () => {
  await visit();
  await answered("test-197");
  const response = await fetch(new URL("/v1/indexes/digits/influence", served.url), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: "test-197" }),
  });
  const answer: Record<"helpful" | "harmful", { id: string; influence: number; flipped: boolean; was: number }[]> =
    await response.json();
  const all = [...answer.helpful, ...answer.harmful];
  const most = Math.max(...all.map(({ influence }) => Math.abs(influence)));
  for (const kind of ["helpful", "harmful"] as const) {
    expect(await rowsOf(kind).locator(".id").allTextContents()).toEqual(answer[kind].map(({ id }) => id));
    const values = await rowsOf(kind).locator(".value").allTextContents();
    for (const [at, { influence, flipped, was }] of answer[kind].entries()) {
      expect(values[at]).toBe(influence.toPrecision(3).replace(/^-/, "\u2212").replace(/^(\d)/, "+$1"));
      const row = rowsOf(kind).nth(at);
      const share = await row
        .locator(".fill")
        .evaluate((bar) => bar.clientWidth / (bar.parentElement?.clientWidth ?? 1));
      expect(share).toBeCloseTo(Math.abs(influence) / most, 1);
      expect(await row.locator(".tag").allTextContents()).toEqual(flipped ? [`mislabeled: really ${was}`] : []);
    }
  }
  expect(all.some(({ flipped }) => flipped)).toBe(true);
});

test("a digit is picked by mouse, and has an address", async () => {
  await visit();
  await answered("test-197");
  await tile("test-189").click();
  await answered("test-189");
  expect(await chosen()).toBe("test-189");
  expect(new URL(page.url()).hash).toBe("#query=test-189&index=digits");
  expect(await page.locator("#live").textContent()).toMatch(
    /^test-189, labeled 9: 10 most helpful and 10 most harmful/,
  );
  await page.goBack();
  await answered("test-197");
  expect(await chosen()).toBe("test-197");
});

test("a digit is picked by keyboard alone", async () => {
  await visit();
  await answered("test-197");
  for (let presses = 0; presses < 30 && (await focused()) !== "test-197"; presses++) await page.keyboard.press("Tab");
  expect(await focused()).toBe("test-197");
  await page.keyboard.press("ArrowRight");
  expect(await focused()).toBe("test-193");
  const outline = await tile("test-193").evaluate((node) => getComputedStyle(node).outlineStyle);
  expect(outline).toBe("solid");
  await page.keyboard.press("Enter");
  await answered("test-193");
  expect(await focused()).toBe("test-193");
  await page.keyboard.press("ArrowDown");
  const below = await focused();
  const [upper, lower] = await Promise.all([tile("test-193").boundingBox(), tile(String(below)).boundingBox()]);
  expect(lower?.x).toBe(upper?.x);
  expect(lower?.y).toBeGreaterThan(upper?.y ?? 0);
  await page.keyboard.press("End");
  const last = await focused();
  await page.keyboard.press("ArrowRight");
  await expect.poll(() => page.locator(".range").textContent()).toBe("37–50 of 50");
  expect(await focused()).not.toBe(last);
  await page.keyboard.press("ArrowLeft");
  await expect.poll(focused).toBe(last);
});

test("the keyboard may skip to the answer, and the address stays", async () => {
  await visit();
  await answered("test-197");
  const { hash } = new URL(page.url());
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("result-start");
  expect(new URL(page.url()).hash).toBe(hash);
});

test("filters and pages through the stored digits", async () => {
  await visit();
  await answered("test-197");
  await page.getByRole("radio", { name: "All" }).check();
  await expect.poll(() => page.locator(".range").textContent()).toBe("1–36 of 200");
  await page.getByRole("radio", { name: "3" }).check();
  await expect.poll(() => page.locator(".range").textContent()).toBe("1–20 of 20");
  const captions = await page.locator(".caption").allTextContents();
  expect(captions.every((caption) => caption.startsWith("3"))).toBe(true);
  await page.getByRole("radio", { name: "Any" }).check();
  await expect.poll(() => page.locator(".range").textContent()).toBe("1–36 of 200");
  await page.getByRole("button", { name: "Next page" }).click();
  await expect.poll(() => page.locator(".range").textContent()).toBe("37–72 of 200");
});

test("a deep link opens its query", async () => {
  await visit("#query=test-42");
  await answered("test-42");
  expect(await page.locator(".asked h2").textContent()).toBe("A 2, read correctly");
});

test("an index without images shows ids and columns", async () => {
  await visit("#index=words");
  await page.locator(".asked h2", { hasText: "test/spam 17" }).waitFor();
  expect(await page.locator("img").count()).toBe(0);
  expect(await rowsOf("helpful").first().textContent()).toMatch(
    /labeled [01].*train\/(ham|spam) \d+text The text of train/,
  );
});

test("what goes wrong is said, and can be tried again", async () => {
  await visit("#query=none");
  const failure = page.getByRole("alert");
  await failure.waitFor();
  expect(await failure.textContent()).toContain('expected the id of a stored query of index digits, got "none"');
  expect(faults.splice(0)).toEqual([expect.stringContaining("404")]);
  await page.evaluate(() => {
    location.hash = "#query=test-1";
  });
  await answered("test-1");
  await page.context().setOffline(true);
  await tile("test-193").click();
  await failure.waitFor();
  expect(await failure.textContent()).toContain("The server cannot be reached");
  faults.splice(0);
  await page.context().setOffline(false);
  await page.getByRole("button", { name: "Try again" }).click();
  await answered("test-193");
});

test.for(["light", "dark"] as const)("fits a phone, %s", async (colorScheme) => {
  await visit("", { viewport: PHONE, colorScheme, hasTouch: true, isMobile: true });
  await answered("test-197");
  const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  expect(widths).toEqual([390, 390]);
  await tile("test-193").tap();
  await answered("test-193");
});

test.for(["light", "dark"] as const)("text stands out from what is behind it, %s", async (colorScheme) => {
  await visit("", { colorScheme });
  await answered("test-197");
  const lightness = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  expect(luminance(lightness) > 0.5).toBe(colorScheme === "light");
  const pairs = await page.evaluate(() => {
    const behind = (node: Element | null): string => {
      if (!node) return "rgb(255, 255, 255)";
      const { backgroundColor } = getComputedStyle(node);
      return backgroundColor === "rgba(0, 0, 0, 0)" ? behind(node.parentElement) : backgroundColor;
    };
    const speaking = Array.from(document.querySelectorAll("main *, header *")).filter((node) =>
      Array.from(node.childNodes).some((child) => child.nodeType === Node.TEXT_NODE && child.textContent?.trim()),
    );
    const shown = speaking.filter((node) => !node.closest("button:disabled, option, .hidden, legend"));
    return shown.map((node) => [node.textContent, getComputedStyle(node).color, behind(node)] as const);
  });
  expect(pairs.length).toBeGreaterThan(100);
  for (const [text, front, back] of pairs) {
    const [brighter, darker] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    expect({ text, enough: (brighter + 0.05) / (darker + 0.05) >= 4.5 }).toEqual({ text, enough: true });
  }
});

test("says so when nothing is published", async () => {
  const empty = await serveSynthetic([]);
  try {
    page = await browser.newPage();
    faults = [];
    await page.goto(empty.url);
    await page.getByRole("alert").waitFor();
    expect(await page.getByRole("alert").textContent()).toContain("No index is published here yet");
    await empty.put(pointerKey("broken"), new TextEncoder().encode("{}"));
    await page.getByRole("button", { name: "Try again" }).click();
    await expect.poll(() => page.getByRole("alert").textContent()).toContain("broken");
  } finally {
    await empty.close();
  }
});

/** Relative luminance of "rgb(r, g, b)" (WCAG 2.2). */
function luminance(color: string): number {
  const [r, g, b] = (color.match(/[\d.]+/g) ?? []).map((part) => {
    const value = Number(part) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
