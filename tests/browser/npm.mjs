// Somebody whose npm waits for her signs in.

import { task, walk } from "./walk.mjs";

await walk(async (visitor) => {
  const { page } = visitor;
  await page.goto(task.page);
  await visitor.look("npm-login");
  visitor.say("asks", await visitor.text("main dl"));
  await page.getByLabel("User name").fill("alice");
  await page.getByLabel("Password").fill("guess");
  await visitor.follow(() => page.locator("main").getByRole("button", { name: "Sign in" }).click());
  visitor.say("wrong", await visitor.text("[role=alert]"));
  await visitor.look("npm-login-wrong");
  await page.getByLabel("User name").fill("alice");
  await page.getByLabel("Password").fill("password");
  await visitor.follow(() => page.locator("main").getByRole("button", { name: "Sign in" }).click());
  visitor.say("done", await visitor.text("[role=status]"));
  await visitor.look("npm-login-done");
});
