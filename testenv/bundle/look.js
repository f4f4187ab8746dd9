// look.js PAGE.html DIR: opens the page in a browser, wide and narrow, light and dark. Fails if the page requests
// anything but itself, scrolls sideways, or violates a rule of axe-core. Leaves a picture of each in DIR.
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");

const [page_file, pictures] = process.argv.slice(2);
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

(async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
  });
  let failed = 0;
  const check = (name, wrong) => {
    console.log(`${wrong.length ? "not ok" : "ok"} ${name}`);
    for (const line of wrong) console.log(`    ${line}`);
    failed += wrong.length ? 1 : 0;
  };
  for (const scheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      const name = `${scheme}-${width}`;
      const page = await browser.newPage();
      const requested = [];
      page.on("request", (r) => requested.push(r.url()));
      await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      // Without scripts first: the page must not need them.
      await page.setJavaScriptEnabled(false);
      const url = "file://" + path.resolve(page_file);
      await page.goto(url, { waitUntil: "networkidle0" });
      await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
      if (name === "light-1280") {
        const clip = { x: 140, y: 0, width: 1000, height: 1250 };
        await page.screenshot({ path: path.join(pictures, "docs.png"), clip });
      }
      check(`${name}: nothing requested but the page`, requested.filter((u) => u !== url && !u.startsWith("data:")));

      await page.setJavaScriptEnabled(true);
      await page.setBypassCSP(true);
      await page.goto(url, { waitUntil: "networkidle0" });
      const over = await page.evaluate(() => {
        // Folded text must be readable too.
        for (const d of document.querySelectorAll("details")) d.open = true;
        return document.documentElement.scrollWidth - window.innerWidth;
      });
      check(`${name}: no scrolling sideways`, over > 0 ? [`${over} pixels over`] : []);
      await page.evaluate(axe);
      const results = await page.evaluate(() => window.axe.run());
      check(
        `${name}: axe-core, ${results.passes.length} rules`,
        results.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html).join(" | ")}`),
      );
      if (results.passes.length === 0) check(`${name}: axe-core applied a rule`, ["no rule applied"]);
      await page.close();
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
