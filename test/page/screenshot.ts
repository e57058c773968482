/**
 * `npm run screenshot [-- ADDRESS]`: the picture of the page in README, fixtures/screenshot.png. ADDRESS is that of a running
 * page (default http://127.0.0.1:8787/, where `npm start` serves); it may end in #query=<id>.
 */
import { join } from "node:path";
import { openBrowser } from "./browser.ts";

const FILE = join("fixtures", "screenshot.png");
const address = process.argv[2] ?? "http://127.0.0.1:8787/";

const browser = await openBrowser();
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  await page.goto(address).catch(() => {
    throw new Error(`${address}: expected the page, got no answer; run npm start, or name the page's address`);
  });
  await page.locator(".proof, [role=alert]").first().waitFor();
  const failure = page.getByRole("alert");
  if (await failure.isVisible())
    throw new Error(`${address}: expected an answer, got "${await failure.textContent()}"`);
  await page.waitForLoadState("networkidle");
  await page.screenshot({ path: FILE });
  process.stdout.write(`${FILE}\n`);
} catch (error) {
  process.stderr.write(`npm run screenshot: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
