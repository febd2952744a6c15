// People of all languages look at the pages.

import { VIEWS, task, walk } from "./walk.mjs";

const views = task.languages.map((language, at) => ({ ...VIEWS[at % VIEWS.length], name: language, language }));
await walk(async (visitor) => {
  const { page } = visitor;
  for (const [name, path] of Object.entries(task.pages)) {
    await visitor.open(path);
    await visitor.look(`language-${name}`, { isTall: false });
    visitor.say(`${name} lang`, await page.locator("html").getAttribute("lang"));
    visitor.say(`${name} heading`, await visitor.text("main h1"));
  }
}, views);
