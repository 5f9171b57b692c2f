// Goes through the console as an operator and as a viewer. Arguments: Playwright's folder, the console's address, a folder
// for screenshots.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [playwright, address, shots] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);

const data = mkdtempSync(join(tmpdir(), "gw-console-"));
const browser = await chromium.launchPersistentContext(data, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage();
page.setDefaultTimeout(60_000);
const problems = [];
// The first answer is that nobody is signed in, and an amount is refused: Chromium writes both to the log.
const isExpected = (text) => /status of (401|422) /.test(text);
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type()) && !isExpected(message.text())) problems.push(message.text());
});
page.on("pageerror", (error) => problems.push(String(error)));
page.on("dialog", (dialog) => dialog.accept());

const text = (wanted) => page.getByText(wanted).first().waitFor();
const open = async (name, heading) => {
  await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
};

async function signIn(token) {
  await page.goto(address);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { level: 1, name: "What happens now" }).waitFor();
}

async function shoot(name) {
  for (const [width, colorScheme] of [[1280, "light"], [390, "dark"]]) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    // Charts follow the new width a moment later.
    const fits = () => document.documentElement.scrollWidth <= document.documentElement.clientWidth;
    await page.waitForFunction(fits).catch(() => assert.fail(`${name} at ${width} px is scrolled to the side`));
    await page.screenshot({ path: join(shots, `${name}-${width}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

await page.goto(address);
await page.getByLabel("Token").fill("the-token-of-nobody");
await page.getByRole("button", { name: "Sign in" }).click();
await text("not a token of this console");
await signIn("the-token-of-operators");

await text("admitted a second");
assert.equal(await page.locator("figure canvas").count(), 5);
// Live: another point comes by itself.
for (let count = 0; count < 5; count += 1) {
  const answer = await page.waitForResponse((response) => response.url().includes("since="));
  assert.ok((await answer.json()).sample);
}
await shoot("now");

await open("Refusals", "Who is refused, and why");
await page.getByRole("row", { name: /\{acme\}:key:7 rpm \d 2/ }).waitFor();
await shoot("refusals");

await open("Spenders", "Who spends most");
await text("month: 18.25 of 20 usd (91 %)");
await text(/exhausted in .* at the last hour's pace/);
await shoot("spenders");

await page.getByRole("link", { name: "{acme}:key:7" }).click();
await page.getByRole("row", { name: /rpm window requests 3 3 0 refuses/ }).waitFor();
await text("lease-1");
await shoot("account");
await page.getByLabel("Amount of the credit").fill("a lot");
await page.getByRole("button", { name: "Give credit" }).click();
await text("not an amount: a lot");
await page.getByLabel("Amount of the credit").fill("5");
await page.getByRole("button", { name: "Give credit" }).click();
await text("the credit is 5 usd now, MONTH");
await page.getByRole("row", { name: /month budget usd 18.25 25 / }).waitFor();
const policies = page.getByLabel("Policies as JSON");
await policies.fill((await policies.inputValue()).replace('"limit": 3', '"limit": 10'));
await page.getByRole("button", { name: "Set policies" }).click();
await text("the policies of {acme}:key:7 are set");
await page.getByRole("row", { name: /rpm window requests 3 10 7 allows/ }).waitFor();

await open("Queues", "Log queues and dead letters");
// More queues than fit a screen: one is found by a part of its key.
await page.getByRole("link", { name: "log:many:29" }).waitFor();
await page.getByLabel("Part of a queue's key").fill("many:7");
await page.getByRole("button", { name: "Filter" }).click();
await page.getByRole("link", { name: "log:many:29" }).waitFor({ state: "detached" });
assert.equal(await page.getByRole("link", { name: /^log:/ }).count(), 1);
await page.getByLabel("Part of a queue's key").fill("");
await page.getByRole("button", { name: "Filter" }).click();
await page.getByRole("link", { name: "log:requests" }).click();
await text("Dead letters of log:requests");
// A record is text, whatever it contains.
await text("<script>alert(1)</script>");
await shoot("queues");
await page.getByRole("button", { name: "Drop", exact: true }).first().click();
await text("Drop: 1 done");
await page.getByRole("button", { name: "Requeue", exact: true }).first().click();
await text("Requeue: 1 done");

await open("Cache", "Response cache by category");
await shoot("cache");
await page.getByRole("row", { name: /^chat/ }).getByRole("button", { name: "Clear" }).click();
await text("chat: 1 entries cleared");

await open("Nodes", "Primaries and their replicas");
await page.getByRole("row", { name: /replica online [0-9.]+ K?B/ }).waitFor();
await shoot("nodes");

await page.getByRole("button", { name: "Sign out" }).click();
await page.getByLabel("Token").waitFor();
await signIn("the-token-of-viewers");
await open("Cache", "Response cache by category");
await page.getByRole("table").waitFor();
assert.equal(await page.getByRole("button", { name: "Clear" }).count(), 0);
await page.goto(`${address}#account?%7Bacme%7D%3Akey%3A7`);
await text("lease-1");
assert.equal(await page.getByRole("button", { name: /Give credit|Set policies/ }).count(), 0);
await page.goto(`${address}#queues?log%3Arequests`);
await text("Records are shown to operators.");

assert.deepEqual(problems, []);
await browser.close();
rmSync(data, { recursive: true });
