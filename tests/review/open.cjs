// Reviews images in headless Chromium by keys alone, and reloads the page. Prints what it saw as JSON.
//     node open.cjs CHROMIUM ADDRESS FOLDER
const path = require("node:path");
const { chromium } = require("playwright-core");

const [, , executablePath, address, folder] = process.argv;

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  const problems = [], foreign = [];
  page.on("console", (message) => problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("request", (request) => { if (!request.url().startsWith(address)) foreign.push(request.url()); });
  const ready = async () => {
    await page.waitForSelector("body[data-ready]");
    await page.waitForFunction(() => [...document.querySelectorAll(".tile img")].every((image) => image.complete));
  };
  const kept = () => page.waitForFunction(() => document.getElementById("kept").textContent === "all marks saved");
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  const tiles = () => page.evaluate(() => [...document.querySelectorAll(".tile")]
    .sort((a, b) => a.getAttribute("aria-posinset") - b.getAttribute("aria-posinset"))
    .map((tile) => [Number(tile.id.replace("tile-", "")), tile.dataset.mark ?? "", tile.querySelector(".badge")?.textContent ?? ""]));
  const chosen = () => page.evaluate(() => Number(document.querySelector(".tile[aria-selected=true]").id.replace("tile-", "")));
  const text = (id) => page.locator(`#${id}`).innerText();
  const seen = { problems, foreign };

  await page.goto(address);
  await ready();
  seen.before = await tiles();
  seen.pictures = await page.evaluate(() => [...document.querySelectorAll(".tile img, #large")].map((image) => image.naturalWidth));
  // A mark moves on to the next image.
  await press("c", "l", "f", "u", "d", "2");
  // Back to the second: its mark is cleared; the third gets another one, which is undone.
  await press("Home", "ArrowRight", "Backspace", "ArrowRight", "c", "z");
  await kept();
  seen.progress = await text("progress");
  seen.chosen = await chosen();
  seen.marked = await tiles();

  await page.reload();
  await ready();
  seen.reloaded = await tiles();
  seen.chosenAgain = await chosen();
  seen.progressAgain = await text("progress");

  // Filters, by keyboard: the mark's select takes letters as its own and not as marks.
  await page.locator("#mark").focus();
  await press("f");
  await page.waitForFunction(() => document.querySelectorAll(".tile").length === 1);
  seen.filtered = [await page.locator("#mark").inputValue(), await tiles(), await text("progress")];
  await page.locator("#mark").selectOption("none");
  await page.locator("#suspects").check();
  seen.left = await tiles();
  await page.locator("#suspects").uncheck();
  await page.locator("#mark").selectOption("");
  await page.locator("#low").fill("0.5");
  await page.locator("#low").press("Tab");
  seen.high = (await tiles()).length;
  await page.locator("#low").fill("0");
  await page.locator("#low").press("Tab");
  await page.locator("#class").selectOption({ label: "cow" });
  seen.cows = await page.evaluate(() => shown.map((place) => all.classes[all.target[place]]));
  await page.locator("#class").selectOption("");

  await press("Escape", "Home", "s");
  await page.waitForFunction(() => document.getElementById("order").value === "near");
  seen.near = [await page.evaluate(() => near.length), (await tiles())[0][0], await text("ways")];
  await press("m");
  await page.waitForFunction(() => map.points.pca);
  seen.map = await page.evaluate(() => {
    map.draw();
    const found = new Set(), { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) found.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
    return [canvas.width > 200, found.size > 2, document.getElementById("legend").innerText];
  });
  // A mark on the map is one of the image that is chosen.
  await press("End", "d");
  await kept();
  seen.last = await page.evaluate(() => [all.id[shown[current]], markOf(shown[current])[0]]);
  await page.screenshot({ path: path.join(folder, "map.png") });
  await press("Escape", "Escape");
  seen.order = await page.locator("#order").inputValue();
  await press("?");
  seen.help = await page.evaluate(() => document.getElementById("help").open);
  await press("c", "Escape");
  seen.afterHelp = await page.evaluate(() => [document.getElementById("help").open, marks.size]);
  await page.screenshot({ path: path.join(folder, "grid.png") });

  // No name of a control is missing, and nothing is wider than a phone.
  seen.nameless = await page.evaluate(() => [...document.querySelectorAll("button, select, input, canvas, [role]")]
    .filter((each) => !(each.innerText || each.labels?.length || each.getAttribute("aria-label") || each.role === "presentation"
      || each.role === "status" || each.getAttribute("role") === "presentation" || each.getAttribute("role") === "status"))
    .map((each) => each.outerHTML.slice(0, 80)));
  await page.setViewportSize({ width: 390, height: 844 });
  seen.wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await page.screenshot({ path: path.join(folder, "phone.png") });
  console.log(JSON.stringify(seen));
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
