// What pages can do with scripts; each works without.

// Commands can be copied.
for (const box of document.querySelectorAll(".copy")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  const copy = document.body.dataset.copy, copied = document.body.dataset.copied;
  button.type = "button";
  button.textContent = copy;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(box.querySelector("code").textContent);
    button.textContent = copied;
    setTimeout(() => { button.textContent = copy; }, 2000);
  });
  box.append(button);
}

// Colours change as soon as they are chosen.
const theme = document.querySelector(".theme");
theme?.querySelector("button").setAttribute("hidden", "");
theme?.querySelector("select").addEventListener("change", () => theme.requestSubmit());

// Tables can be filtered.
for (const input of document.querySelectorAll("[data-filter]")) {
  const rows = document.getElementById(input.dataset.filter).tBodies[0].rows;
  input.closest("[hidden]").hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}

// What is typed is searched for at once, on the page that shows packages.
const query = document.getElementById("q");
const results = document.getElementById("results");
if (results) {
  let asked, latest = query.value;
  query.addEventListener("input", () => {
    clearTimeout(asked);
    asked = setTimeout(async () => {
      const text = query.value.trim();
      if (text === latest) return;
      latest = text;
      const url = new URL(query.form.action);
      if (text) url.searchParams.set("q", text);
      // A search that fails leaves what is there; the button says why.
      const answer = await fetch(url, { headers: { accept: "text/html" } }).catch(() => undefined);
      if (!answer?.ok || text !== latest) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.getElementById("results").replaceWith(page.getElementById("results"));
      document.querySelector("main h1").replaceWith(page.querySelector("main h1"));
      history.replaceState(null, "", url);
    }, 150);
  });
}

// `/` leads to the search.
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName);
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    query.focus();
  }
});

// What goes on is shown as it goes, and what came of it at its end.
async function follow() {
  const first = document.querySelector("[data-live]");
  if (!first) return;
  await new Promise((resolve) => { setTimeout(resolve, 1000); });
  const answer = await fetch(first.dataset.page, { headers: { accept: "text/html" } }).catch(() => null);
  if (answer?.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const live of document.querySelectorAll("[data-live]")) {
      const part = live.dataset.live, now = page.getElementById(part);
      const going = now?.querySelector("[data-live]");
      if (going) live.replaceWith(going);
      else if (now) document.getElementById(part).replaceWith(now);
    }
  }
  follow();
}
follow();
