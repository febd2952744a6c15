// An administrator looks after the registry.

import { walk } from "./walk.mjs";

await walk(async (visitor) => {
  const { page } = visitor;
  visitor.say("refused", await visitor.open("/-/web/admin"));
  await visitor.look();
  await visitor.follow(() => page.locator("main").getByRole("link", { name: "Sign in" }).click());
  await page.getByLabel("User name").fill("root");
  await page.getByLabel("Password").fill("password");
  await visitor.follow(() => page.locator("main").getByRole("button", { name: "Sign in" }).click());
  visitor.say("heading", await visitor.text("main h1"));
  await visitor.look("admin");

  // Work on all of storage goes on behind the page, which says how far it is. It can be asked again, also without
  // scripts.
  for (const [id, button] of [["reindex", "Start reindexing"], ["storage", "Look at all of storage"]]) {
    await visitor.follow(() => page.locator(`#${id}`).getByRole("button", { name: button }).click());
    while (await page.locator(`#${id} progress`).count()) await visitor.open("/-/web/admin");
    visitor.say(id, await visitor.text(`#${id} [role=status]`));
  }
  await visitor.look("admin-done");
  visitor.say("users", await page.locator("#users td, #users th").allInnerTexts());
  visitor.say("uplink", await visitor.text("#uplinks tbody th"));

  // What came from upstream.
  await visitor.open("/-/web/cached");
  while (!(await page.locator("tbody a").count())) await visitor.open("/-/web/cached");
  await visitor.look("cached");
  visitor.say("cached", await page.locator("tbody a").allInnerTexts());
  await visitor.follow(() => page.locator("tbody a").first().click());
  visitor.say("package", await visitor.text("main h1"));
  await visitor.look("package-upstream");
});
