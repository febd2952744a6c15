// Somebody looks at packages that wish her ill.

import { task, walk } from "./walk.mjs";

await walk(async (visitor) => {
  const { page } = visitor;
  for (const path of task.paths) {
    const status = await visitor.open(path);
    if (status !== 200) visitor.problem(`status ${status}`);
    // Whatever begins to work once it is seen or clicked has had its chance.
    const hidden = page.locator(".readme summary").first();
    if (await hidden.isVisible()) await hidden.click();
    await visitor.look(path.split("/").at(-1) || "hostile-home", { isTall: false });
    const marks = await page.evaluate(() => Object.keys(window).filter((key) => key.startsWith("evil")));
    if (marks.length) visitor.problem(`their scripts ran: ${marks}`);
    if (!(await page.locator("main#main > *").count())) visitor.problem("the page's own content is gone");
    const wanted = new URL(page.url()).pathname;
    if (!wanted.endsWith(path.split("?")[0])) visitor.problem(`it leads to ${wanted}`);
  }
});
