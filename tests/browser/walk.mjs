// What all walks share: a browser, the views in which people see pages, and what must hold on each page. A walk reads
// its task as JSON from standard input and prints what it saw as JSON.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { RUSTACCIO_BROWSER_IT_MODULES, RUSTACCIO_BROWSER_IT_PROGRAM, RUSTACCIO_SCREENSHOTS } = process.env;
const require = createRequire(join(RUSTACCIO_BROWSER_IT_MODULES, "walk.js"));
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

/** What the test wants. */
export const task = JSON.parse(readFileSync(0, "utf8"));

const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
/** Each pair of scripts, size and colours is seen once. */
export const VIEWS = [
  { name: "desktop-light", scripts: true, size: DESKTOP, colours: "light" },
  { name: "phone-dark", scripts: true, size: PHONE, colours: "dark" },
  { name: "phone-light-plain", scripts: false, size: PHONE, colours: "light" },
  { name: "desktop-dark-plain", scripts: false, size: DESKTOP, colours: "dark" },
];
/** The longest that anything on a page may take. */
const PATIENCE = 20_000;
/** The longest that a walk may take: whoever started it has given up by then. */
const END = 240_000;

/** Somebody with a browser of her own, who looks at pages in one view. */
export class Visitor {
  problems = [];
  #said = [];
  #double;

  constructor(browser, context, view) {
    Object.assign(this, { browser, context, view, url: task.url });
    this.origin = new URL(task.url).origin;
  }

  static async new(browser, view) {
    const context = await browser.newContext({
      viewport: view.size,
      colorScheme: view.colours,
      javaScriptEnabled: view.scripts,
      locale: view.language ?? "en-GB",
      reducedMotion: "reduce",
      permissions: ["clipboard-read", "clipboard-write"],
    });
    context.setDefaultTimeout(PATIENCE);
    const visitor = new Visitor(browser, context, view);
    context.on("request", (request) => visitor.#requested(request));
    context.on("console", (message) => visitor.#heard(message));
    context.on("weberror", (error) => visitor.problem(`a script failed: ${error.error()}`));
    visitor.page = await context.newPage();
    visitor.page.on("dialog", async (dialog) => {
      visitor.problem(`a dialog: ${dialog.message()}`);
      await dialog.dismiss();
    });
    context.on("page", () => visitor.problem("a second window"));
    return visitor;
  }

  problem(text) {
    this.problems.push(`${this.view.name} ${this.page?.url() ?? ""}: ${text}`);
  }

  #requested(request) {
    const url = new URL(request.url());
    const isOurs = url.origin === this.origin || url.protocol === "data:";
    if (!isOurs) this.problem(`it asks ${url}`);
  }

  #heard(message) {
    // A page that says why there is none comes with the status that says so too.
    const isOfPage = /^Failed to load resource: the server responded with a status of 4/.test(message.text());
    if (isOfPage && message.location().url === message.page()?.url()) return;
    this.problem(`in the console: ${message.text()} (${message.location().url})`);
  }

  /** Opens the page at `path` of the registry. */
  async open(path) {
    const response = await this.page.goto(`${this.url}${path}`);
    return response.status();
  }

  /** Does something that leads to another page, and waits for it. */
  async follow(act) {
    const [response] = await Promise.all([this.page.waitForNavigation({ waitUntil: "load" }), act()]);
    return response?.status();
  }

  /** Looks at the page: what must hold everywhere holds, and there is a picture of it under this name. */
  async look(name, { isTall = true } = {}) {
    const { page } = this;
    await page.waitForLoadState("load");
    if (name && RUSTACCIO_SCREENSHOTS) {
      mkdirSync(RUSTACCIO_SCREENSHOTS, { recursive: true });
      const path = join(RUSTACCIO_SCREENSHOTS, `${name}-${this.view.name}.png`);
      const draw = () => page.screenshot({ path, fullPage: isTall });
      // A browser that is busy sometimes has none to give.
      await draw().catch(draw);
    }
    const found = await this.#examined();
    for (const text of found) this.problem(text);
  }

  /** What is wrong with the page, found in a world of our own that scripts of the page cannot reach. */
  async #examined() {
    if (this.view.scripts) return examined(this.context, this.page);
    // What examines it is a script too: it looks at a copy, where there are scripts but none of the page's own.
    this.#double ??= await Visitor.#copier(this.browser, this.view);
    const url = this.page.url().split("#")[0];
    const body = await this.page.content();
    const isCopied = ({ href }) => href === url;
    await this.#double.route(isCopied, (route) => route.fulfill({ body, contentType: "text/html; charset=utf-8" }));
    await this.#double.goto(url);
    const found = await examined(this.#double.context(), this.#double);
    await this.#double.unroute(isCopied);
    return found;
  }

  static async #copier(browser, { size, colours }) {
    const context = await browser.newContext({ viewport: size, colorScheme: colours });
    await context.route("**/*.js", (route) => route.fulfill({ body: "", contentType: "text/javascript" }));
    return context.newPage();
  }

  async close() {
    await this.#double?.context().close();
    await this.context.close();
  }

  text(selector) {
    return this.page.locator(selector).first().innerText();
  }

  /** Keeps something for the test to look at. */
  say(key, value) {
    this.#said.push([key, value]);
  }

  get said() {
    return Object.fromEntries(this.#said);
  }
}

/** Examines a page in a world of our own. */
async function examined(context, page) {
  const session = await context.newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id });
  const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
    expression: `${axe};(${examine})(${Boolean(task.strangers)})`,
    contextId: executionContextId,
    awaitPromise: true,
    returnByValue: true,
  });
  await session.detach();
  if (exceptionDetails) return [`it cannot be examined: ${JSON.stringify(exceptionDetails).slice(0, 2000)}`];
  return result.value;
}

/** Runs in the page. What strangers wrote may be badly built, as long as it stays where it is. */
async function examine(isOfStrangers) {
  const problems = [];
  const shown = (element) => element.outerHTML.slice(0, 300);
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) {
    const wide = [...document.body.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > clientWidth + 1);
    problems.push(`it is ${scrollWidth} wide in ${clientWidth}: ${wide.slice(0, 3).map(shown).join(" ")}`);
  }
  for (const element of document.querySelectorAll("header h1,main>h1,h2,h3,label,button,th,dt,caption,option,footer")) {
    if (!element.textContent.trim() && !element.closest(".readme")) problems.push(`it says nothing: ${shown(element)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at && !id.startsWith("readme-"));
  if (twice.length) problems.push(`ids are there twice: ${twice}`);
  if (isOfStrangers) return problems;
  // The axe of this world: the page's own has none.
  const { violations } = await globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    resultTypes: ["violations"],
  });
  for (const { id, help, nodes } of violations) {
    const where = nodes.slice(0, 3).map((node) => `${node.html.slice(0, 300)} ${node.failureSummary ?? ""}`);
    problems.push(`axe: ${id}: ${help}: ${where.join(" | ")}`);
  }
  return problems;
}

/** Takes `steps` in each of `views`, and prints what was seen. */
export async function walk(steps, views = task.view === undefined ? VIEWS : [VIEWS[task.view]]) {
  let now;
  setTimeout(() => {
    console.error(`the walk takes too long: it is at ${now?.view.name} ${now?.page.url()}`);
    process.exit(1);
  }, END).unref();
  const browser = await chromium.launch({
    executablePath: RUSTACCIO_BROWSER_IT_PROGRAM,
    // What the browser asks its makers is no request of a page.
    args: ["--disable-background-networking", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  const report = { problems: [], said: {} };
  try {
    for (const view of views) {
      const visitor = (now = await Visitor.new(browser, view));
      try {
        await steps(visitor);
      } catch (error) {
        visitor.problem(`the walk ends: ${error.stack ?? error}`);
      }
      report.problems.push(...visitor.problems);
      report.said[view.name] = visitor.said;
      await visitor.close();
    }
  } finally {
    await browser.close();
  }
  process.stdout.write(JSON.stringify(report));
}
