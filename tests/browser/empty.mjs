// Somebody opens a registry in which nothing is yet.

import { walk } from "./walk.mjs";

await walk(async (visitor) => {
  const { page, view } = visitor;
  await visitor.open("/");
  await visitor.look("empty");
  visitor.say("help", await page.locator(".help code").allInnerTexts());
  if (view.scripts) {
    await page.locator(".help .copy").first().getByRole("button").click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
  }
  await visitor.follow(() => page.locator("header.top").getByRole("link", { name: "Sign in" }).click());
  await visitor.look();
  visitor.say("heading", await visitor.text("main h1"));
});
