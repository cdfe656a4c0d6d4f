// Opens a page in headless Chromium, as on a desk and on a phone, and prints it. Prints what it saw as JSON.
//     node open.cjs CHROMIUM FILE FOLDER
const path = require("node:path");
const { chromium } = require("playwright-core");

const [, , executablePath, file, folder] = process.argv;

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const problems = [];
  const requests = [];
  page.on("console", (message) => problems.push(message.text()));
  page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!/^(file|data):/.test(request.url())) requests.push(request.url()); });
  await page.goto(`file://${file}`);
  const text = await page.locator("body").innerText();
  await page.screenshot({ path: path.join(folder, "desk.png"), fullPage: true });
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  const small = await page.evaluate(() => Math.min(...[...document.querySelectorAll("td")].map(
    (cell) => parseFloat(getComputedStyle(cell).fontSize))));
  const images = await page.evaluate(async () => {
    for (const image of document.images) { image.closest("details")?.setAttribute("open", ""); await image.decode(); }
    return [...document.images].map((image) => [image.naturalWidth, image.clientWidth]);
  });
  await page.screenshot({ path: path.join(folder, "phone.png") });
  const foreign = await page.evaluate(() => document.querySelectorAll("script, iframe, object, link, form").length);
  await page.pdf({ path: path.join(folder, "print.pdf"), format: "A4" });
  console.log(JSON.stringify({ text, problems, requests, wide, small, images, foreign }));
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
