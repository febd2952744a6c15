// Somebody looks for packages and reads about them.

import { readFileSync } from "node:fs";

import { task, walk } from "./walk.mjs";

await walk(async (visitor) => {
  const { page, view } = visitor;
  await visitor.open("/");
  await visitor.look("home", { isTall: false });
  visitor.say("first", await page.locator(".packages a").first().innerText());

  // More of them are on the next page.
  await visitor.follow(() => page.locator("a[rel=next]").click());
  await visitor.look("home-more", { isTall: false });
  visitor.say("more", await page.locator(".packages li").count());

  // A search, by what is typed alone or by its button.
  await visitor.open("/");
  await page.locator("#q").fill("colour");
  if (view.scripts) {
    await page.waitForURL(/q=colour/);
  } else {
    await visitor.follow(() => page.locator(".search button").click());
  }
  await page.locator(".packages a", { hasText: "@acme/colours" }).waitFor();
  await visitor.look("search");
  visitor.say("found", await page.locator(".packages a").allInnerTexts());
  await visitor.open("/-/web?q=nothing-is-called-so");
  await visitor.look("search-nothing");

  // A package.
  await visitor.open("/-/web?q=colour");
  await visitor.follow(() => page.locator(".packages a", { hasText: "@acme/colours" }).click());
  await visitor.look("package");
  visitor.say("title", await page.title());
  visitor.say("heading", await visitor.text("main h1"));
  visitor.say("dependents", await page.locator("#dependencies a").allInnerTexts());
  for (const tab of await page.locator(".package .tabs a").all()) {
    await tab.click();
    const id = (await tab.getAttribute("href")).slice(1);
    await page.locator(`#${id}`).waitFor();
    await page.waitForURL(new RegExp(`#${id}$`));
  }
  if (view.scripts) {
    const copy = page.locator(".copy", { hasText: "npm install" }).first();
    await copy.getByRole("button").click();
    await copy.getByRole("button", { name: "Copied" }).waitFor();
    visitor.say("copied", await page.evaluate(() => navigator.clipboard.readText()));
    await page.getByLabel("Filter").fill("2.0.0-beta");
    visitor.say("filtered", await page.locator("#version-table tbody tr:visible").count());
    await visitor.look("package-filtered");
  }

  // An older version of it, which says so, and its manifest.
  await visitor.open("/-/web/detail/@acme/colours");
  await visitor.follow(() => page.locator("#version-table a", { hasText: "1.0.0" }).first().click());
  await visitor.look("package-version");
  visitor.say("version", await visitor.text("main h1"));
  await visitor.follow(() => page.getByRole("link", { name: "Go to the latest" }).click());
  const raw = await visitor.page.context().request.get(
    await page.evaluate(() => [...document.querySelectorAll(".actions a")].at(-1).href),
  );
  visitor.say("raw", (await raw.json()).name);

  // Its tarball.
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.locator("a[download]").click(),
  ]);
  visitor.say("file", download.suggestedFilename());
  visitor.say("bytes", readFileSync(await download.path()).length);

  // What is not there, and what is not for her.
  visitor.say("missing", await visitor.open("/-/web/detail/missing"));
  await visitor.look("missing");
  visitor.say("hidden", await visitor.open(`/-/web/detail/${task.hidden}`));
  await visitor.look("refused");

  // The keyboard alone.
  await visitor.open("/");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL(/#main$/);
  visitor.say("skipped", new URL(page.url()).hash);
  if (view.scripts) {
    await page.keyboard.press("/");
    await page.keyboard.type("colour");
    await page.waitForURL(/q=colour/);
  }
});
