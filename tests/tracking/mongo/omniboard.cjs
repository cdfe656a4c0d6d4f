// Opens Omniboard in headless Chromium: the table of runs, then the metric plot of one. Prints what it saw as JSON.
//     node omniboard.cjs CHROMIUM URL RUN FOLDER
const path = require("node:path");
const { chromium } = require("playwright-core");

const [, , executablePath, url, run, folder] = process.argv;

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
  page.setDefaultTimeout(90_000);
  const elsewhere = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(url).origin) && /^https?:/.test(request.url())) elsewhere.push(request.url());
  });
  await page.goto(url);
  // The first visit is reloaded with the columns of this field.
  const grid = page.locator(".fixedDataTableLayout_main");
  await grid.getByText("Conflicting %").waitFor();
  await grid.getByText("COMPLETED", { exact: true }).first().waitFor();
  const table = await grid.innerText();
  await page.screenshot({ path: path.join(folder, "table.png") });
  const row = grid.locator(".fixedDataTableRowLayout_main").filter({ has: page.getByText(run, { exact: true }) }).last();
  // A click while the table draws itself again is lost.
  for (let attempt = 0; attempt < 20 && !(await page.getByText("Metrics Plot").count()); attempt++) {
    await row.getByText("COMPLETED", { exact: true }).click();
    await page.waitForTimeout(1000);
  }
  await page.getByText("Metrics Plot").first().click();
  await page.locator(".js-plotly-plot .scatterlayer .trace").first().waitFor();
  const curves = await page.locator(".js-plotly-plot .legendtext").allTextContents();
  await page.screenshot({ path: path.join(folder, "plot.png") });
  console.log(JSON.stringify({ table, curves, elsewhere }));
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
