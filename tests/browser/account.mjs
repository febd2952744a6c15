// Somebody signs in, and changes what is hers.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

import { task, walk } from "./walk.mjs";

/** What an authenticator app shows now for `secret` (RFC 6238). */
function code(secret) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((letter) => letters.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const digest = createHmac("sha1", key).update(step).digest();
  const number = digest.readUInt32BE(digest[19] & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

await walk(async (visitor) => {
  const { page, view } = visitor;
  const name = "alice";
  const signIn = async (password, pass = "") => {
    await page.getByLabel("User name").fill(name);
    await page.getByLabel("Password").fill(password);
    await page.getByLabel("One-time pass").fill(pass);
    return visitor.follow(() => page.locator("main").getByRole("button", { name: "Sign in" }).click());
  };
  const card = (heading) => page.locator("section.card", { has: page.getByRole("heading", { name: heading, level: 2, exact: true }) });
  const signOut = () => visitor.follow(() => page.getByRole("button", { name: "Sign out" }).click());

  // Whoever asks for her account is asked who she is.
  await visitor.open("/-/web/settings");
  visitor.say("asked", await visitor.text("main h1"));
  await visitor.look("sign-in");
  visitor.say("wrong", await signIn("guess"));
  visitor.say("wrong says", await visitor.text("[role=alert]"));
  await visitor.look("sign-in-wrong");
  visitor.say("right", await signIn("password"));
  visitor.say("account", await visitor.text("main h1"));
  await visitor.look("settings");

  // A theme is kept.
  const choose = async (theme) => {
    if (view.scripts) {
      await visitor.follow(() => page.getByLabel("Colours").selectOption(theme));
    } else {
      await page.getByLabel("Colours").selectOption(theme);
      await visitor.follow(() => page.locator(".theme button").click());
    }
  };
  const other = view.colours === "light" ? "dark" : "light";
  await choose(other);
  await visitor.open("/");
  visitor.say("theme", [other, await page.locator("html").getAttribute("data-theme")]);
  await visitor.look("theme-chosen");
  await choose("auto");
  visitor.say("theme again", await page.locator("html").getAttribute("data-theme"));

  // What only those who are signed in may see, and download.
  visitor.say("hidden", await visitor.open(`/-/web/detail/${task.hidden}`));
  await visitor.look();
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("a[download]").click()]);
  visitor.say("bytes", readFileSync(await download.path()).length);

  // A token.
  await visitor.follow(() => page.locator("header.top").getByRole("link", { name }).click());
  const makeToken = async (password) => {
    await page.getByLabel("Name", { exact: true }).fill("for builds");
    await page.getByLabel("Days until it expires").fill("30");
    await page.getByLabel("Only for these packages").fill("@acme, other");
    await page.getByLabel("Only from these networks").fill("127.0.0.0/8");
    await page.getByLabel("read only").check();
    await card("Tokens").getByLabel("Password").fill(password);
    return visitor.follow(() => page.getByRole("button", { name: "Make a token" }).click());
  };
  visitor.say("token refused", await makeToken("guess"));
  await visitor.look();
  await makeToken("password");
  visitor.say("token", await card("Your new token").locator("code").innerText());
  await visitor.look("token");
  const row = page.locator("tr", { hasText: "for builds" });
  visitor.say("row", await row.innerText());
  await visitor.open("/-/web/settings");
  visitor.say("shown again", await card("Your new token").count());
  await visitor.follow(() => row.getByRole("button", { name: "Revoke" }).click());
  visitor.say("left", await row.count());
  await visitor.look();

  // A second factor.
  await card("Second factor").getByLabel("Password").fill("password");
  await visitor.follow(() => page.getByRole("button", { name: "Turn on" }).click());
  visitor.say("picture", await page.locator(".qr").evaluate((image) => image.decode().then(() => image.naturalWidth)));
  const secret = await page.locator("main code.long").innerText();
  await visitor.look("second-factor");
  await page.getByLabel("Code", { exact: true }).fill(code(secret));
  await visitor.follow(() => page.getByRole("button", { name: "Confirm" }).click());
  const recovery = (await card("Recovery codes").locator("code").innerText()).trim().split(/\s+/);
  visitor.say("recovery codes", recovery.length);
  await visitor.look("recovery-codes");
  await signOut();
  visitor.say("signed out", await page.locator("header.top").getByRole("link", { name: "Sign in" }).count());
  await visitor.open("/-/web/login");
  visitor.say("without pass", await signIn("password"));
  await visitor.look("sign-in-pass");
  visitor.say("with pass", await signIn("password", recovery[0]));
  await visitor.open("/-/web/settings");
  await card("Second factor").getByLabel("Password").fill("password");
  await card("Second factor").getByLabel("Code").fill(recovery[1]);
  await visitor.look();
  await visitor.follow(() => page.getByRole("button", { name: "Turn off" }).click());
  visitor.say("turned off", await page.getByRole("button", { name: "Turn on" }).count());

  // Another password: all logins end.
  await page.getByLabel("Old password").fill("guess");
  await page.getByLabel("New password").fill("another password");
  visitor.say("old is wrong", await visitor.follow(() => page.getByRole("button", { name: "Change the password" }).click()));
  await visitor.look();
  await page.getByLabel("Old password").fill("password");
  await page.getByLabel("New password").fill("another password");
  await visitor.follow(() => page.getByRole("button", { name: "Change the password" }).click());
  visitor.say("then", await visitor.text("main h1"));
  visitor.say("old", await signIn("password"));
  visitor.say("new", await signIn("another password"));
  await visitor.open("/-/web/settings");
  await signOut();

  // Somebody else makes an account.
  await visitor.open("/-/web/login");
  await page.getByLabel("User name").fill("dora");
  await page.getByLabel("Password").fill("password");
  await visitor.follow(() => page.getByRole("button", { name: "Make an account" }).click());
  visitor.say("made", await page.locator("header.top").getByRole("link", { name: "dora" }).count());
});
